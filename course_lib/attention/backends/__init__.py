"""What runs attention: the launches, the guard and the compiler of the kernels, and PyTorch."""
