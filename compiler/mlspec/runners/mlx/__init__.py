"""Networks of MLX: `mlx.nn` modules and functions over arrays."""
