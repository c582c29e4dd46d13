"""Augment whole batches on the device.

In: stored images and the positions of their samples.
Out: the model's input, flipped, rotated, scaled, shifted, framed, and with a different exposure and quality.
Invariant: how a sample is changed is a function of (seed, its position in the endless sequence of epochs). It does not
depend on the batch, the device or the number of processes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wds_bone.model import film_quality, quality
from wds_bone.model.clahe import equalize_locally
from wds_bone.model.exposure import find_film
from wds_bone.model.preprocess import Preprocessing
from wds_bone.model.resample import affine_maps

NUM_DRAWS = 21


@dataclass(frozen=True)
class Ranges:
    """The largest change of each kind; the defaults and the units are in the training settings."""

    flip: bool = False
    turn_degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    gamma: float = 0.0
    saturation: float = 0.0
    sharpness: float = 0.0
    clahe: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    frame: float = 0.0
    erase: float = 0.0


def augment(image: Tensor, position: Tensor, *, preprocessing: Preprocessing, seed: int, ranges: Ranges) -> Tensor:
    """Turn stored images into the model's input, as in evaluation, and change each of them at random.

    Args:
        image: uint8 (B, 1, H, W), as stored.
        position: int64 (B,), on the same device.
        preprocessing: converts stored images to the model's input.
        seed: the seed of the training run.
        ranges: the largest changes.

    Returns:
        float32 (B, 1, height, width); before the changes, air is about 0 and bone about 1.
    """
    draws = uniform_draws(seed, position, num_draws=NUM_DRAWS)
    signed = 2.0 * draws - 1.0
    aspect = preprocessing.width / preprocessing.height
    moves = _moves(draws[:, 0] < 0.5, signed[:, 1:5], ranges, aspect=aspect)
    tones = _tones(signed[:, 5:10], ranges)
    film = _change_film(image, draws[:, 16:21], ranges)
    return _change_input(preprocessing.to_input(film, moves, tones), draws[:, 10:16], ranges)


def uniform_draws(seed: int, position: Tensor, *, num_draws: int) -> Tensor:
    """Return uniform random numbers: hashes of (seed, position, index of the draw).

    Two rounds of the SplitMix64 finalizer (Steele, Lea and Flood, OOPSLA 2014) in wrapping int64 arithmetic, which is
    the same on every device.

    Args:
        seed: any integer; its lowest 64 bits are used.
        position: int64 (B,).
        num_draws: how many numbers to return per position.

    Returns:
        float32 (B, num_draws), in [0, 1).
    """
    start = _mix(position * _GOLDEN_GAMMA + _wrap(seed))
    counters = torch.arange(1, num_draws + 1, device=position.device) * _GOLDEN_GAMMA
    bits = _mix(start[:, None] + counters[None, :])
    return _shift_right(bits, 40).float() / float(1 << 24)


def _moves(mirrored: Tensor, signed: Tensor, ranges: Ranges, *, aspect: float) -> Tensor:
    """Return the maps that flip, rotate, scale and shift, float32 (B, 2, 3), in the coordinates of `resample`."""
    direction = 1.0 - 2.0 * (mirrored & ranges.flip)
    angle = signed[:, 0] * math.radians(ranges.turn_degrees)
    zoom = 1.0 + signed[:, 1] * ranges.scale
    return affine_maps(angle, zoom, aspect=aspect, direction=direction, shift=signed[:, 2:4] * (2.0 * ranges.shift))


def _tones(signed: Tensor, ranges: Ranges) -> Tensor | None:
    """Return the changes of the exposure, float32 (B, 5), for `normalize_tones`; None if all are turned off.

    Each end is saturated in half of the images: evaluation, which saturates none, would otherwise be an extreme case.
    """
    if not (ranges.contrast or ranges.brightness or ranges.gamma or ranges.saturation):
        return None
    power = (signed[:, 0:1] * math.log1p(ranges.gamma)).exp()
    factor, summand = 1.0 + signed[:, 1:2] * ranges.contrast, signed[:, 2:3] * ranges.brightness
    return torch.cat([signed[:, 3:5].clamp_min(0.0) * ranges.saturation, power, factor, summand], 1)


def _change_film(image: Tensor, draws: Tensor, ranges: Ranges) -> Tensor:
    """Change stored films as scanners, software and file formats do, in that order, each in half of the images.

    What is in bars remains, because films get them later.
    """
    noise, place, clahe, jpeg, frame = draws.unbind(1)
    film, is_film = image, find_film(image)
    if ranges.noise:
        film = film_quality.add_noise(film, _in_half(noise) * ranges.noise, place)
    if ranges.clahe:
        film = equalize_locally(film, _in_half(clahe) * ranges.clahe)
    if ranges.jpeg:
        film = film_quality.compress(film, _in_half(jpeg) * ranges.jpeg)
    if ranges.frame:
        film = film_quality.cover_border(film, is_film, _in_half(frame) * ranges.frame)
    return torch.where(is_film > 0, film, image)


def _in_half(draws: Tensor) -> Tensor:
    """Return uniform numbers from 0 to 1 that are 0 in half of the cases, and otherwise uniform."""
    return (2.0 * draws - 1.0).clamp_min(0.0)


def _change_input(image: Tensor, draws: Tensor, ranges: Ranges) -> Tensor:
    """Erase a box of each image and change the sharpness of half of them, if these are turned on."""
    if ranges.erase:
        image = quality.erase(image, torch.cat([draws[:, 0:2] * ranges.erase, draws[:, 2:4]], 1), draws[:, 4])
    if ranges.sharpness:
        signed = 2.0 * draws[:, 5] - 1.0
        image = quality.sharpen(image, signed.sign() * (2.0 * signed.abs() - 1.0).clamp_min(0.0) * ranges.sharpness)
    return image


def _wrap(value: int) -> int:
    """Return the signed 64-bit number with the same lowest 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


_GOLDEN_GAMMA = _wrap(0x9E3779B97F4A7C15)
_FIRST_FACTOR = _wrap(0xBF58476D1CE4E5B9)
_SECOND_FACTOR = _wrap(0x94D049BB133111EB)


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shift_right(bits, 30)) * _FIRST_FACTOR
    bits = (bits ^ _shift_right(bits, 27)) * _SECOND_FACTOR
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits: Tensor, places: int) -> Tensor:
    """Shift right as an unsigned number; int64 tensors would copy the sign bit."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
