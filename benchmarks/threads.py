"""How does the loader scale with threads, and how many images per second does the interpreter's lock allow?

Command:   python -m benchmarks.threads [--images FOLDER] [--threads 1 2 4]
Compared:  `BoneAgeStream` and simplejpeg alone on JPEG of 256 and 64 pixels; the stream on arrays of 64 pixels, which
           need no decoding: what remains is the loader's own work, most of it under the lock of the interpreter.
Method:    shuffled batches of 64, warm page cache; three interleaved rounds of 1.5 s. The CPU time per image counts all
           threads.
Machine:   CPU. With more threads than cores, only the arrays are meaningful.
Result:    benchmarks/results/threads.json.
"""

import argparse
import tempfile
from collections.abc import Generator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.films import encode_films, write_shards
from benchmarks.gpu.decoders import decode_in_threads
from benchmarks.gpu.loader import DECODER, OURS, ROUND_SECONDS, Source, measure_sources
from benchmarks.loaders import BATCH_SIZE
from benchmarks.rounds import print_table, save_result
from wds_bone import BoneAgeStream
from wds_bone.stream.load import BATCHES_AHEAD

KINDS = (("jpg", 256), ("jpg", 64), ("npy", 64))
NUM_SAMPLES, NUM_SHARDS = 8192, 8


def stream_batches(shards: str, *, threads: int) -> Generator[int]:
    """Yield the number of images of each batch of the stream."""
    with BoneAgeStream(shards, batch_size=BATCH_SIZE, threads=threads) as stream:
        for batch in stream.endless():
            yield len(batch.key)


def measure_kind(folder: Path, images: Path | None, counts: list[int], *, encoding: str, size: int) -> dict[str, Any]:
    """Return images per second and CPU seconds per image of the stream and, for JPEG, of the decoder alone."""
    films = encode_films(images, size=size, encoding=encoding)
    kind = {"encoding": encoding, "num_samples": NUM_SAMPLES, "num_shards": NUM_SHARDS}
    shards = write_shards(folder / f"{encoding}-{size}", films, **kind)
    sources = {}
    for threads in counts:
        sources[f"{OURS}, {threads}"] = Source(stream_batches(shards, threads=threads), BATCHES_AHEAD + 2)
        if encoding == "jpg":
            decoder = decode_in_threads(films, size=size, threads=threads)
            sources[f"{DECODER}, {threads}"] = Source(decoder, 2 * threads)
    result = measure_sources(sources, seconds=ROUND_SECONDS)
    print_table(result["images_per_second"], unit=f"images per second, {size} px {encoding}", reference=f"{OURS}, 1")
    for name, seconds in result["cpu_seconds_per_image"].items():
        print(f"{name}: {1e6 * median(seconds):.0f} us of CPU per image")
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="folder of films (default: synthetic hands)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="numbers of threads; 1 is added"
    )
    args = parser.parse_args()
    counts = sorted({1, *args.threads})
    with tempfile.TemporaryDirectory() as folder:
        kinds = {
            f"{encoding} {size}": measure_kind(Path(folder), args.images, counts, encoding=encoding, size=size)
            for encoding, size in KINDS
        }
    print(save_result("threads", {"kinds": kinds}))


if __name__ == "__main__":
    main()
