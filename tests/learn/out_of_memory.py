"""A backbone whose forward pass always runs out of memory, on any device."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

OUT_OF_MEMORY_MODEL = "out_of_memory"


class OutOfMemoryModel(nn.Module):
    """Runs out of memory, except on the meta device."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, image: Tensor) -> Tensor:
        if not image.is_meta:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 99 GiB.")
        return self.layers(image)  # type: ignore[no-any-return]


def register_out_of_memory_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the model with torchvision for the duration of a test."""

    def build(*, num_classes: int) -> nn.Module:
        return OutOfMemoryModel(num_classes)

    build.__module__ = f"{torchvision.models.__name__}.{OUT_OF_MEMORY_MODEL}"
    monkeypatch.setitem(torchvision.models._api.BUILTIN_MODELS, OUT_OF_MEMORY_MODEL, build)
