"""A minimal training script: all images in RAM, one model, one optimizer, nothing else.

In: a stream, which is read once into RAM.
Out: images per second of its training steps. `benchmarks.headspace` uses it for comparison on a CPU.
"""

import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from wds_bone import BoneAgeStream


class PlainModel(nn.Module):
    """A backbone whose features are combined with gender."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.backbone = torchvision.models.get_model(name, num_classes=256)
        self.gender = nn.Linear(1, 256)
        self.head = nn.Linear(256, 1)

    def forward(self, image: Tensor, gender: Tensor) -> Tensor:
        """Return the predicted ages, standardized, (B,)."""
        features = self.backbone(image.expand(-1, 3, -1, -1)) + self.gender(gender[:, None])
        return self.head(features.relu()).flatten()


def augment(image: Tensor) -> Tensor:
    """Return a batch with random flips, rotations, scales, shifts, contrasts and brightnesses."""
    count = len(image)
    angle, zoom = (torch.rand(count) - 0.5) * 0.28, 1 + (torch.rand(count) - 0.5) * 0.12
    flip, shift = torch.randint(0, 2, (count,)) * 2 - 1, (torch.rand(count, 2) - 0.5) * 0.16
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rows = torch.stack([cos * flip, -sin, shift[:, 0], sin * flip, cos, shift[:, 1]], 1).view(-1, 2, 3)
    grid = F.affine_grid(rows, list(image.shape), align_corners=False)
    moved = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    return moved * (1 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.2) + (torch.rand(count, 1, 1, 1) - 0.5) * 0.1


def plain_steps(
    stream: BoneAgeStream, *, model: str, image_size: int, bf16: bool, batch_size: int, num_steps: int
) -> Callable[[], float]:
    """Read the stream into RAM and return a function that runs `num_steps` steps and returns images per second."""
    batches = list(stream)
    images, genders, ages = (
        torch.cat([getattr(batch, name) for batch in batches]) for name in ("image", "gender", "age_months")
    )
    images = F.interpolate(images.float(), image_size, mode="area").byte()
    net = PlainModel(model).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4, weight_decay=0.05)
    mean, deviation = ages.mean(), ages.std()

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(num_steps):
            rows = torch.randint(0, stream.num_samples, (batch_size,))
            image = augment(images[rows].float() / 255).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                predicted = net(image, genders[rows]).float()
            loss = F.smooth_l1_loss(predicted, (ages[rows] - mean) / deviation)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return num_steps * batch_size / (time.perf_counter() - start)

    return measure
