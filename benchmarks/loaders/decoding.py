"""The fastest decoders, for the loaders that have none of their own.

This module does not use `wds_bone.stream.decode`, so that loaders also run where wds_bone is not installed.
"""

import math

import imagecodecs
import numpy as np
import simplejpeg

NPY_HEADER_BYTES = 128


def decode_gray(contents: bytes, encoding: str) -> np.ndarray:
    """Return the gray image, uint8 (1, H, W).

    Raw arrays are assumed to be square, so their header does not have to be parsed.
    """
    if encoding == "jpg":
        return np.moveaxis(simplejpeg.decode_jpeg(contents, colorspace="GRAY"), 2, 0)
    if encoding == "png":
        return imagecodecs.png_decode(contents)[None]
    pixels = np.frombuffer(contents, np.uint8, offset=NPY_HEADER_BYTES)
    return pixels.reshape(1, math.isqrt(len(pixels)), -1)
