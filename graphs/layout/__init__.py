"""Orders of axes: transposes moved until they cancel."""
