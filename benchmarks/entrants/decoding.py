"""The fastest decoders, for the entrants that bring none of their own.

Not `wds_bone.stream.decode`, so that entrants run where wds_bone is not installed.
"""

import math

import numpy as np
import simplejpeg
import torch
from torchcodec.decoders import decode_png

NPY_HEADER_BYTES = 128


def decode_gray(contents: bytes, encoding: str) -> np.ndarray:
    """Return uint8 (1, H, W); a raw array is taken for a square one, so that its header need not be parsed."""
    if encoding == "jpg":
        return np.moveaxis(simplejpeg.decode_jpeg(contents, colorspace="GRAY"), 2, 0)
    if encoding == "png":
        return decode_png(torch.frombuffer(bytearray(contents), dtype=torch.uint8), mode="GRAY").numpy()
    pixels = np.frombuffer(contents, np.uint8, offset=NPY_HEADER_BYTES)
    return pixels.reshape(1, math.isqrt(len(pixels)), -1)
