"""Images from which a model can learn: the bar is longer the older the hand, and the gender shifts the label."""

import json
from pathlib import Path

import numpy as np
import webdataset
from numpy.typing import NDArray

from wds_bone.shards.encoding import encode_image

GENDER_SHIFT_MONTHS = 30.0


def write_bars(path: Path, *, num_samples: int, seed: int, size: int = 32) -> None:
    """Write a plain shard: a longer bar means older, and a girl is 30 months older than a boy with the same bar."""
    generator = np.random.default_rng(seed)
    with path.open("wb") as file, webdataset.TarWriter(file, mtime=0) as tar:
        for number in range(num_samples):
            maturity, girl = generator.uniform(), bool(generator.integers(2))
            age_months = 10 + 180 * maturity + GENDER_SHIFT_MONTHS * girl
            label = {"age_months": round(age_months, 1), "gender": "F" if girl else "M"}
            image = encode_image(_bar(maturity, size, generator), "png")
            tar.write({"__key__": f"bar-{seed}-{number}", "json": json.dumps(label).encode(), "png": image})


def _bar(maturity: float, size: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    image = generator.integers(0, 40, (size, size), dtype=np.uint8)
    length, left = round(4 + maturity * (size - 8)), int(generator.integers(size - 8))
    image[2 : 2 + length, left : left + 6] = 180
    return image
