"""How fast do verified, shuffled batches come out of shards, against webdataset and against the decoder alone?

Command:   python -m benchmarks.loader [--images FOLDER] [--size 256] [--encoding jpg] [--rounds 5]
Entrants:  wds_bone, two threads, crc checked, shuffled over the whole epoch;
           webdataset tuned (grey decode with simplejpeg in a map, batches in the workers), two workers;
           webdataset as documented (`decode("rgb8")`), two workers;
           decode only: the same bytes in RAM, simplejpeg straight into the batch, two threads: the limit.
Work:      the same samples, as batches of 64 uint8 grey images with gender and age, page cache warm.
Result:    benchmarks/results/loader-<encoding>-<size>.json; README.md shows the table.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
import webdataset

from benchmarks.films import encode_films, write_shards
from benchmarks.rounds import print_table, run_rounds, save_result
from wds_bone import BoneAgeStream
from wds_bone.stream.decode import decode_into

BATCH_SIZE, CORES = 64, 2


def images_per_second(batches: Iterable[object], num_samples: int) -> float:
    """Return the speed of one pass over `batches`."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return num_samples / (time.perf_counter() - start)


def decode_grey(sample: dict[str, bytes], *, encoding: str, size: int) -> tuple[np.ndarray, float, float]:
    """Return image, gender, age: the map of the tuned webdataset."""
    image, label = np.empty((size, size), np.uint8), json.loads(sample["json"])
    decode_into(sample[encoding], encoding, image)
    return image[None], float(label["gender"] == "M"), float(label["age_months"])


def webdataset_loader(url: str, *, encoding: str, size: int, tuned: bool) -> Iterable[object]:
    """Return a loader with two lasting workers."""
    shards = webdataset.WebDataset(url, shardshuffle=100, empty_check=False, seed=0).shuffle(1000)
    if tuned:
        samples = shards.map(lambda sample: decode_grey(sample, encoding=encoding, size=size))
    else:
        samples = shards.decode("rgb8").to_tuple(encoding, "json")
    batches = samples.batched(BATCH_SIZE) if tuned else samples.batched(BATCH_SIZE, collation_fn=stack_documented)
    return webdataset.WebLoader(batches, batch_size=None, num_workers=CORES, persistent_workers=True)


def stack_documented(samples: list[tuple[np.ndarray, dict[str, object]]]) -> tuple[torch.Tensor, list[object]]:
    """Return the batch of the documented idiom: the green channel, and the labels as they are."""
    images, labels = zip(*samples, strict=True)
    return torch.from_numpy(np.stack([image[None, :, :, 1] for image in images])), list(labels)


def decode_only(films: list[bytes], *, encoding: str, size: int, num_samples: int) -> Callable[[], float]:
    """Return a run of the limit: two threads decode from RAM into batches that are used again."""
    copies = [bytes(bytearray(film)) for film in islice(cycle(films), num_samples)]  # as far apart as in the shards
    pixels = np.empty((CORES, BATCH_SIZE, size, size), np.uint8)

    def decode_share(worker: int) -> None:
        for place, film in enumerate(copies[worker::CORES]):
            decode_into(film, encoding, pixels[worker, place % BATCH_SIZE])

    def run() -> float:
        with ThreadPoolExecutor(CORES) as pool:
            return images_per_second(pool.map(decode_share, range(CORES)), num_samples)

    return run


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of films; synthetic hands without it")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--encoding", choices=["jpg", "png", "npy"], default="jpg")
    parser.add_argument("--num-samples", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    films = encode_films(args.images, size=args.size, encoding=args.encoding)
    with tempfile.TemporaryDirectory() as folder:
        url = write_shards(
            Path(folder) / "set", films, encoding=args.encoding, num_samples=args.num_samples, num_shards=8
        )
        stream = BoneAgeStream(url, batch_size=BATCH_SIZE, threads=CORES)
        common = {"encoding": args.encoding, "size": args.size}
        entrants: dict[str, Iterable[object]] = {
            "wds_bone": stream,
            "webdataset tuned": webdataset_loader(url, tuned=True, **common),
        }
        if args.encoding != "npy":
            entrants["webdataset documented"] = webdataset_loader(url, tuned=False, **common)
        runs = {
            name: lambda loader=loader: images_per_second(loader, args.num_samples) for name, loader in entrants.items()
        }
        runs["decode only"] = decode_only(films, num_samples=args.num_samples, **common)
        figures = run_rounds(runs, num_rounds=args.rounds)
    print_table(figures, unit="images per second", reference="decode only")
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands"}
    print(save_result(f"loader-{args.encoding}-{args.size}", {"settings": settings, "images_per_second": figures}))


if __name__ == "__main__":
    main()
