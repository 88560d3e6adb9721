"""What is written out as several operators, as the one operator of the standard that it is."""
