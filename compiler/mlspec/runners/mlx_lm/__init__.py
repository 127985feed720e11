"""MLX language models, with none, one or more mlx_lm adapters."""
