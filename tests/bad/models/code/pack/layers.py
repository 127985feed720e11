class Dense:
    """A layer."""
