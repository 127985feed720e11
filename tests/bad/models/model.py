"""A module for the bad specs: never run."""


class Iris:
    """A class that predicts nothing."""

    def predict(self, inputs): ...
