"""Change stored films as scanners, collimators and file formats do, for the augmentation.

In: uint8 images (B, 1, H, W), and the strength of the change for each of them.
Out: the images, changed.
Invariant: an image is changed in the same way in any batch; a strength of 0 changes nothing.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

NUM_NOISE_VALUES = 1 << 20
EXACT = float(1 << 20)
"""The reciprocal of what remains of a coefficient after its last bits were cut off."""
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""The quantization table for luminance at quality 50 (ITU-T T.81, annex K), by vertical and horizontal frequency."""


def add_noise(image: Tensor, sd: Tensor, place: Tensor) -> Tensor:
    """Add Gaussian noise, which is a part of one fixed sequence.

    Args:
        image: uint8 (B, 1, H, W).
        sd: float32 (B,), as a fraction of white.
        place: float32 (B,), from 0 to less than 1; where the part begins.
    """
    pixels = torch.arange(image[0].numel(), dtype=torch.int32, device=image.device)
    index = ((place * NUM_NOISE_VALUES).int()[:, None] + pixels) % NUM_NOISE_VALUES
    noise = _noise(image.device).index_select(0, index.flatten()).view(image.shape)
    return _as_bytes(image + 255.0 * sd[:, None, None, None] * noise)


def compress(image: Tensor, loss: Tensor) -> Tensor:
    """Lose what JPEG compression loses: round the coefficients of the cosine transforms of 8 x 8 blocks.

    Many coefficients of whole gray values are half way between two multiples of a step. Cutting off their last bits,
    which depend on the order of a sum and so on the batch, keeps these from deciding a rounding.

    Args:
        image: uint8 (B, 1, H, W).
        loss: float32 (B,), 100 minus the quality, 0 to 99.
    """
    height, width = image.shape[2:]
    padded = F.pad(image - 128.0, (0, -width % 8, 0, -height % 8), mode="replicate")
    steps = _quantization_steps(100.0 - loss)
    cosines = _cosine_transform(image.device)
    rows, columns = padded.shape[2] // 8, padded.shape[3] // 8
    blocks = padded.reshape(-1, 1, rows, 8, columns, 8).transpose(3, 4)  # (B, 1, rows, columns, 8, 8)
    coefficients = (blocks.flatten(4).double() @ cosines.T * EXACT).round() / EXACT
    decoded = (
        ((coefficients / steps).round() * steps @ cosines)
        .float()
        .view(blocks.shape)
        .transpose(3, 4)
        .flatten(4, 5)
        .flatten(2, 3)
    )
    compressed = _as_bytes(decoded[..., :height, :width] + 128.0)
    return torch.where(loss[:, None, None, None] > 0.0, compressed, image)


def cover_border(image: Tensor, is_film: Tensor, width: Tensor) -> Tensor:
    """Make the border of films black, as a collimator or a frame does.

    Args:
        image: uint8 (B, 1, H, W).
        is_film: uint8 (B, 1, H, W), 1 for pixels that are in no bar.
        width: float32 (B,), the width of the border as a fraction of the film's shorter side.
    """
    rows, columns = is_film.amax(3), is_film.amax(2)
    shorter = torch.minimum(rows.sum(2, keepdim=True), columns.sum(2, keepdim=True))
    down, across = (_distance_to_edge(lines) > shorter * width[:, None, None] for lines in (rows, columns))
    covered = image * (down[..., None] & across[:, :, None])
    return torch.where(width[:, None, None, None] > 0.0, covered, image)


def _distance_to_edge(lines: Tensor) -> Tensor:
    """Return which row or column of the film each one is, counted from the nearer edge; 0 in bars, int64 (B, 1, N)."""
    return torch.minimum(lines.cumsum(2), lines.flip(2).cumsum(2).flip(2)) * lines


def _quantization_steps(quality: Tensor) -> Tensor:
    """Return the quantization tables of libjpeg, float32 (B, 1, 1, 1, 64)."""
    percent = torch.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality)[:, None, None]
    steps = (_luminance(quality.device) * percent / 100.0).round().clamp(1.0, 255.0)
    return steps.flatten(1)[:, None, None, None]


@lru_cache(maxsize=1)
def _cosine_transform(device: torch.device) -> Tensor:
    """Return the orthonormal cosine transform of 8 x 8 values, float64 (64, 64)."""
    frequencies, places = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8)
    cosines = torch.cos((2 * places + 1) * frequencies * (math.pi / 16)) / 2.0
    cosines[0] *= math.sqrt(0.5)
    return torch.kron(cosines, cosines).to(device)


@lru_cache(maxsize=1)  # a copy to a GPU would wait for the steps before
def _luminance(device: torch.device) -> Tensor:
    return torch.tensor(_LUMINANCE, dtype=torch.float32, device=device)


@lru_cache(maxsize=1)
def _noise(device: torch.device) -> Tensor:
    return torch.randn(NUM_NOISE_VALUES, generator=torch.Generator().manual_seed(0)).to(device)


def _as_bytes(grays: Tensor) -> Tensor:
    return grays.round().clamp(0, 255).to(torch.uint8)
