"""Turn stored images into the model's input, in the same way for training, evaluation and prediction.

In: uint8 images as the shards store them.
Out: float32 images of the model's size; air is about 0 and bone is about 1.
Invariant: every image that enters a model has passed through `to_input` of the `Preprocessing` in its checkpoint.
"""

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wds_bone.errors import CheckpointError, ConfigError
from wds_bone.model.exposure import normalize_tones
from wds_bone.model.resample import EVEN_PHASE, resample
from wds_bone.shards.manifest import ImageFormat

NORMALIZATION, OLD_NORMALIZATION = "center-tones", "min-p99"
"""The names of the rules in `normalize_tones`, for new models, and in `normalize_exposure`, for checkpoints up to
version 0.2.0; checkpoints with another normalization are refused."""
BRIGHT_QUANTILE = 0.99
GRID_SIDE_PIXELS = 64
SMALLEST_SIDE_PIXELS = 32
"""Most backbones halve an image five times, so 32 pixels become one; `measure_step_bytes` checks the others."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes the model's input.

    Attributes:
        image_format: geometry and encoding of the stored images, from the manifest of the training set.
        height: height of the model's input, in pixels.
        width: width of the model's input, in pixels.
        phase_pixels: where between its pixels an image that does not move is sampled, so that it is as sharp as those
            that move in training; 0 for checkpoints of formats 1 and 2, which leave such an image unchanged.
        normalization: name of the rule for the gray values.
    """

    image_format: ImageFormat
    height: int
    width: int
    phase_pixels: float = EVEN_PHASE
    normalization: str = NORMALIZATION

    def to_input(self, image: Tensor, moves: Tensor | None = None, tones: Tensor | None = None) -> Tensor:
        """Normalize the exposure of stored images, resize them to the model's size, and resample them, on their device.

        Args:
            image: uint8 (B, 1, H, W), as stored.
            moves: float32 (B, 2, 3), how training moves the images (see `resample`); None leaves them in place.
            tones: float32 (B, 5), how training changes their exposure (see `normalize_tones`), with the present
                normalization only; None leaves it as it is.

        Returns:
            float32 (B, 1, height, width); air is about 0 and bone about 1; without `tones`, no pixel exceeds 1.5.
        """
        if self.normalization == OLD_NORMALIZATION:
            assert tones is None, "a run of an older version is not continued"
            normalized = normalize_exposure(self._resize(image.float()))
        else:  # in this order: resizing would spread the excess brightness of a marker, which a stretch removes
            normalized = self._resize(normalize_tones(image, tones))
        return resample(normalized, moves, phase_pixels=self.phase_pixels)

    def _resize(self, pixels: Tensor) -> Tensor:
        if pixels.shape[-2:] == (self.height, self.width):
            return pixels
        return F.interpolate(pixels, (self.height, self.width), mode="bilinear", antialias=True)

    def reduced(self, fraction: float) -> "Preprocessing":
        """Return the same for images of a fraction of the size, rounded to 4 pixels so that few sizes differ."""
        if fraction == 1.0:
            return self
        height, width = (
            min(side, max(SMALLEST_SIDE_PIXELS, round(side * fraction / 4) * 4)) for side in (self.height, self.width)
        )
        return replace(self, height=height, width=width)

    def refuse_other_format(self, image_format: ImageFormat, *, where: str) -> None:
        """Check that `image_format` has the geometry and the stretch of the training images.

        The encoding may differ, because a PNG of the same pixels is the same image.

        Raises:
            ConfigError: if it does not.
        """
        names = ("height", "width", "fit", "stretch")
        trained, found = ({name: getattr(made, name) for name in names} for made in (self.image_format, image_format))
        if trained != found:
            raise ConfigError(
                f"{where}: the images differ from those that the model was trained on",
                expected=_listed(trained),
                got=_listed(found),
                do="rewrite these shards with the options of the training set",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the description in plain JSON types, for a checkpoint."""
        description = dataclasses.asdict(self)
        if self.image_format.stretch is not None:
            description["image_format"]["stretch"] = list(self.image_format.stretch)
        return description

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> "Preprocessing":
        """Return the description that `to_json` wrote.

        Raises:
            CheckpointError: if it names a normalization that this version does not support.
        """
        if description["normalization"] not in (NORMALIZATION, OLD_NORMALIZATION):
            raise CheckpointError(
                "the checkpoint was trained with a different normalization of the gray values",
                expected=f"{NORMALIZATION} or {OLD_NORMALIZATION}",
                got=description["normalization"],
                do="use the version of wds_bone that wrote it",
            )
        stored = dict(description["image_format"])
        stored["stretch"] = None if stored["stretch"] is None else tuple(stored["stretch"])
        return cls(**{**description, "image_format": ImageFormat(**stored)})


def plan_preprocessing(image_format: ImageFormat, image_size: int | None) -> Preprocessing:
    """Decide the model's input for stored images of one format.

    Args:
        image_format: the format of the images in the shards.
        image_size: length of the longer side of the input in pixels; None keeps the stored size. The aspect ratio is
            kept.

    Raises:
        ConfigError: if the size is too small for any model.
    """
    height, width = image_format.height, image_format.width
    if image_size is not None:
        longer = max(height, width)
        height, width = round(height * image_size / longer), round(width * image_size / longer)
    if min(height, width) < SMALLEST_SIDE_PIXELS:
        raise ConfigError(
            f"images of {width} x {height} pixels are too small to train on",
            expected=f"at least {SMALLEST_SIDE_PIXELS} pixels per side",
            got=min(height, width),
            do=f"use --image-size {SMALLEST_SIDE_PIXELS} or more, or make shards with a larger --size",
        )
    return Preprocessing(image_format, height, width)


def normalize_exposure(pixels: Tensor) -> Tensor:
    """Scale each image so that its darkest pixel is 0 and its 99th percentile is 1.

    The percentile is that of a grid of at most 64 x 64 pixels, because sorting all pixels would take longer than
    decoding. Values are clipped at 1.5; a black image stays black.

    Args:
        pixels: float32 (B, 1, H, W), 0 to 255.
    """
    height, width = pixels.shape[-2:]
    grid = pixels[..., :: -(-height // GRID_SIDE_PIXELS), :: -(-width // GRID_SIDE_PIXELS)]
    dark = pixels.amin((1, 2, 3), keepdim=True)
    bright = torch.quantile(grid.flatten(1), BRIGHT_QUANTILE, dim=1)[:, None, None, None]
    return ((pixels - dark) / (bright - dark).clamp_min(1.0)).clamp_max(1.5)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
