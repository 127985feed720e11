"""A small convolutional network that reads handwritten digits, in MLX."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn


class Net(nn.Module):
    """`[batch, 1, 8, 8]` of brightness, 0 to 1, to `[batch, classes]` of scores, the highest for the class that it is.

    The tensors are those of the same network in PyTorch. Its images have their channels first, MLX's convolutions want
    them last; and as the last layer's weights go by PyTorch's order, so does what it is given.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.scores = nn.Linear(32 * 4 * 4, classes)

    def __call__(self, image: mx.array) -> mx.array:
        found = nn.relu(self.conv2(nn.relu(self.conv1(image.transpose(0, 2, 3, 1)))))
        pooled = nn.MaxPool2d(2)(found).transpose(0, 3, 1, 2)
        return self.scores(pooled.reshape(image.shape[0], -1))
