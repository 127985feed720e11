"""Networks of PyTorch: a class with its tensors, or an exported program."""
