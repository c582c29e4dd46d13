"""A backbone that asks a CUDA device, or what stands in for one, for more memory than there is."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

GREEDY_MODEL = "greedy"


class Greedy(nn.Module):
    """Maps gray images to features, or would, if there were memory for it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, image: Tensor) -> Tensor:
        if not image.is_meta:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 99 GiB.")
        return self.layers(image)  # type: ignore[no-any-return]


def offer_greedy_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision list the greedy model among its own for the time of a test."""

    def build(*, num_classes: int) -> nn.Module:
        return Greedy(num_classes)

    build.__module__ = f"{torchvision.models.__name__}.{GREEDY_MODEL}"
    monkeypatch.setitem(torchvision.models._api.BUILTIN_MODELS, GREEDY_MODEL, build)
