"""The other name of `mlx-lm`, for a spec that is about its adapter."""
