"""Build residual networks for small images, whose width, depth and stem are part of their name.

In: a name such as `residual-32x2222-s2-se`: 32 channels in the first stage and twice as many in each further one; two
blocks in each of four stages; a stem that reduces the image by 2; blocks with squeeze-and-excitation.
Out: a network for three channels.
Invariant: the architecture is a function of the name.
"""

import re

from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from wds_bone.errors import ConfigError

PREFIX = "residual-"
SYNTAX = f"{PREFIX}WIDTHxBLOCKS-sSTRIDE, with -se at the end for squeeze-and-excitation, such as {PREFIX}32x2222-s2"
_NAME = re.compile(PREFIX + r"([1-9]\d{0,3})x([1-9]{1,5})-s([124])(-se)?")
SQUEEZE = 8
"""How many times fewer channels the excitation is computed from."""


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (He et al., 2016), which averages where it reduces (He et al., 2019)."""

    def __init__(self, before: int, after: int, *, stride: int, has_squeeze: bool) -> None:
        super().__init__()
        layers = [*_convolve(before, after, stride=stride), nn.ReLU(inplace=True), *_convolve(after, after)]
        nn.init.zeros_(layers[-1].weight)  # type: ignore[arg-type]  # each block begins as its shortcut
        if has_squeeze:
            layers.append(SqueezeExcitation(after, max(1, after // SQUEEZE)))
        self.body = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if before == after else nn.Sequential(*_project(before, after, stride=stride))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map float32 (B, before, H, W) to (B, after, H / stride, W / stride), rounded up."""
        return self.activation(self.body(features) + self.shortcut(features))  # type: ignore[no-any-return]


def build_residual(name: str, *, num_features: int) -> nn.Module:
    """Build the network of that name for three channels, with `num_features` outputs.

    Raises:
        ConfigError: if the name is not one of such a network.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"{name!r} is not the name of a residual network",
            expected=SYNTAX,
            got=name,
            do=f"use --model {PREFIX}32x2222-s2, or other numbers in their places",
        )
    width, has_squeeze = int(match[1]), match[4] is not None
    layers, channels = _stem(width, reduction=int(match[3])), width
    for stage, num_blocks in enumerate(map(int, match[2])):
        for block in range(num_blocks):
            after, stride = width << stage, 2 if stage and not block else 1
            layers.append(ResidualBlock(channels, after, stride=stride, has_squeeze=has_squeeze))
            channels = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_features))


def _stem(width: int, *, reduction: int) -> list[nn.Module]:
    """Return the layers before the first block: a convolution, and a max-pool if the image is reduced by 4."""
    layers = [*_convolve(3, width, stride=min(reduction, 2)), nn.ReLU(inplace=True)]
    return [*layers, nn.MaxPool2d(3, 2, 1)] if reduction == 4 else layers


def _convolve(before: int, after: int, *, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(after)]


def _project(before: int, after: int, *, stride: int) -> list[nn.Module]:
    return [nn.AvgPool2d(stride, ceil_mode=True), nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)]
