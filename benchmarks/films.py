"""Shards for benchmarks: real films or synthetic hands, encoded once and repeated to the wanted number of samples."""

from itertools import cycle, islice
from pathlib import Path

import webdataset

from wds_bone.images.read import find_images, letterbox, read_image
from wds_bone.index import main as write_index
from wds_bone.phantom import draw_hand, synthetic_hands
from wds_bone.shards.encoding import encode_image

NUM_PICTURES = 240


def encode_films(images: Path | None, *, size: int, encoding: str) -> list[bytes]:
    """Return up to 240 encoded pictures of size x size pixels: the films in `images`, else synthetic hands."""
    if images is None:
        pictures = (draw_hand(hand, size) for hand in synthetic_hands(NUM_PICTURES, seed=0))
    else:
        paths = islice(find_images([images]).values(), NUM_PICTURES)
        pictures = (letterbox(read_image(path), size) for path in paths)
    return [encode_image(picture, encoding, quality=95) for picture in pictures]


def write_shards(folder: Path, films: list[bytes], *, encoding: str, num_samples: int, num_shards: int) -> str:
    """Write `num_samples` samples into `num_shards` indexed shards and return their brace pattern."""
    folder.mkdir(parents=True)
    samples = enumerate(islice(cycle(films), num_samples))
    for shard in range(num_shards):
        with (folder / f"bench-{shard:06d}.tar").open("wb") as file, webdataset.TarWriter(file, mtime=0) as tar:
            for number, film in islice(samples, -(-num_samples // num_shards)):
                label = {"gender": "FM"[number % 2], "age_months": 1 + number % 228}
                tar.write({"__key__": f"film-{number:07d}", encoding: film, "json": label})
    if write_index([str(folder)]) != 0:
        raise SystemExit(f"{folder}: no index")
    return str(folder / f"bench-{{000000..{num_shards - 1:06d}}}.tar")
