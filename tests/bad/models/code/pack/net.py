from . import layers


class Net(layers.Dense):
    """A network."""

    def predict(self, inputs): ...
