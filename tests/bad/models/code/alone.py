import table

from .layers import Dense


class Net(Dense):
    rows = table

    def predict(self, inputs): ...
