class Dense:
    """A layer."""

    def predict(self, inputs): ...
