"""The training loop that everybody writes first: every image in RAM, one model, one optimizer, nothing else.

In: a stream, read once into RAM. Out: images per second of its steps. `benchmarks.headspace` compares
with it on a CPU.
"""

import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from wds_bone import BoneAgeStream


class PlainModel(nn.Module):
    """A backbone with gender joined to its features."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.backbone = torchvision.models.get_model(name, num_classes=256)
        self.gender = nn.Linear(1, 256)
        self.head = nn.Linear(256, 1)

    def forward(self, image: Tensor, gender: Tensor) -> Tensor:
        """Return standardized ages (B,)."""
        features = self.backbone(image.expand(-1, 3, -1, -1)) + self.gender(gender[:, None])
        return self.head(features.relu()).flatten()


def augment(image: Tensor) -> Tensor:
    """Flip, turn, scale, shift and expose a batch."""
    count = len(image)
    turn, zoom = (torch.rand(count) - 0.5) * 0.28, 1 + (torch.rand(count) - 0.5) * 0.12
    side, shift = torch.randint(0, 2, (count,)) * 2 - 1, (torch.rand(count, 2) - 0.5) * 0.16
    cos, sin = turn.cos() * zoom, turn.sin() * zoom
    rows = torch.stack([cos * side, -sin, shift[:, 0], sin * side, cos, shift[:, 1]], 1).view(-1, 2, 3)
    grid = F.affine_grid(rows, list(image.shape), align_corners=False)
    moved = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    return moved * (1 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.2) + (torch.rand(count, 1, 1, 1) - 0.5) * 0.1


def plain_steps(
    stream: BoneAgeStream, *, model: str, image_size: int, bf16: bool, batch_size: int, num_steps: int
) -> Callable[[], float]:
    """Read the stream into RAM and return a run that gives images per second over `num_steps` steps."""
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
            here = torch.randint(0, stream.num_samples, (batch_size,))
            image = augment(images[here].float() / 255).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                predicted = net(image, genders[here]).float()
            loss = F.smooth_l1_loss(predicted, (ages[here] - mean) / deviation)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return num_steps * batch_size / (time.perf_counter() - start)

    return measure
