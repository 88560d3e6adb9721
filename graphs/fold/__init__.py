"""Per-channel scales and shifts, batch norms and paddings into the operators beside them."""
