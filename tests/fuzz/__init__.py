"""Random CNN graphs, what a pass must keep of them, and the faults that show that the checks see something."""
