"""A small convolutional network that reads handwritten digits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """`[batch, 1, 8, 8]` of brightness, 0 to 1, to `[batch, classes]` of scores: the highest is what it shows."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.scores = nn.Linear(32 * 4 * 4, classes)

    def forward(self, image: Tensor) -> Tensor:
        found = torch.relu(self.conv2(torch.relu(self.conv1(image))))
        return self.scores(torch.nn.functional.max_pool2d(found, 2).flatten(1))
