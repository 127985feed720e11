"""The user's own class over named tensors."""
