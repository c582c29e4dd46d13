"""Encoded films and shards for benchmarks.

In: real films, or none for synthetic hands.
Out: encoded images, or indexed shards that repeat them until they hold the wanted number of samples.
"""

from itertools import cycle, islice
from pathlib import Path

import webdataset

from wds_bone.images.read import find_images, letterbox, read_image
from wds_bone.index import main as write_index
from wds_bone.phantom import draw_hand, synthetic_hands
from wds_bone.shards.encoding import encode_image

NUM_FILMS = 240


def encode_films(images: Path | None, *, size: int, encoding: str) -> list[bytes]:
    """Return up to 240 encoded images of size x size pixels: the films in `images`, or synthetic hands."""
    if images is None:
        films = (draw_hand(hand, size) for hand in synthetic_hands(NUM_FILMS, seed=0))
    else:
        paths = islice(find_images([images]).images, NUM_FILMS)
        films = (letterbox(read_image(path), size) for path in paths)
    return [encode_image(film, encoding, quality=95) for film in films]


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
        raise SystemExit(f"{folder}: the index was not written")
    return str(folder / f"bench-{{000000..{num_shards - 1:06d}}}.tar")
