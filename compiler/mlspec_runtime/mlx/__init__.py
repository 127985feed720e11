"""What all runners that compute with MLX need: its memory limits, and a BLAS on a Linux CPU. They alone import MLX."""
