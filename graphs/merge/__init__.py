"""Linear operators, side by side or one after the other, as one."""
