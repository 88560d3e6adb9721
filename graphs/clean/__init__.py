"""What need not be in a graph: constants computed, duplicates, no-ops and dead code removed."""
