"""What integer kernels want of a graph before it is quantized, and float kernels do not."""
