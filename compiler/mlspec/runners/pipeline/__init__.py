"""Several models of tensors in a row, each with its own runner."""
