"""The fastest decoders, for the entrants that bring none of their own.

Not `wds_bone.stream.decode`, so that entrants run where wds_bone is not installed.
"""

import io

import numpy as np
import simplejpeg
import torch
from torchcodec.decoders import decode_png


def decode_grey(contents: bytes, encoding: str) -> np.ndarray:
    """Return uint8 (1, H, W)."""
    if encoding == "jpg":
        return np.moveaxis(simplejpeg.decode_jpeg(contents, colorspace="GRAY"), 2, 0)
    if encoding == "png":
        return decode_png(torch.frombuffer(bytearray(contents), dtype=torch.uint8), mode="GRAY").numpy()
    return np.load(io.BytesIO(contents))[None]
