"""How many images per second does the loader deliver with 1 to 16 threads, and how many could nvJPEG decode?

Command:   python -m benchmarks.gpu.loader [--device cuda]
Compared:  `BoneAgeStream` up to the device; simplejpeg alone, on bytes in RAM and as many threads, which shows what the
           machine's cores give together; nvJPEG on bytes in RAM, through torchcodec or torchvision.
Method:    batches of 64, shuffled, gray JPEG of 256 and 512 pixels, warm page cache; three interleaved rounds of 1.5
           seconds each. The CPU time per image counts all threads.
Machine:   one CUDA GPU and 16 cores; with `--device cpu` two threads and small images.
Result:    gpu-loader-<device>.json.
"""

import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.decoders import decode_in_threads, decode_on_gpu, find_nvjpeg
from benchmarks.gpu.inputs import write_set
from benchmarks.gpu.report import Options, Report, run_part
from benchmarks.loaders import BATCH_SIZE
from benchmarks.rounds import print_table, run_rounds
from benchmarks.targets import Target
from wds_bone import BoneAgeStream
from wds_bone.stream.load import BATCHES_AHEAD
from wds_bone.stream.settings import available_cores

THREADS, SIZES, NUM_ROUNDS, ROUND_SECONDS = (1, 2, 4, 8, 16), (256, 512), 3, 1.5
SMALL_THREADS, SMALL_SIZES, SMALL_SECONDS = (1, 2), (64, 128), 0.1
OURS, DECODER, NVJPEG = "stream", "decoder alone", "nvJPEG"


def stream_batches(shards: Path, options: Options, *, threads: int) -> Generator[int]:
    """Yield the number of images of each batch that arrives on the device."""
    import torch

    with BoneAgeStream(shards, split="train", batch_size=BATCH_SIZE, threads=threads, device=options.device) as stream:
        for number, batch in enumerate(stream.endless()):
            if number % 8 == 7 and batch.image.is_cuda:
                torch.cuda.current_stream().synchronize()  # count only what has arrived
            yield len(batch.key)


def read_films(shards: Path) -> list[bytes]:
    """Return the encoded images of the training split."""
    films = []
    for path in sorted(shards.glob("train-*.tar")):
        with tarfile.open(path) as tar:
            films += [tar.extractfile(member).read() for member in tar if member.name.endswith(".jpg")]
    return films


@dataclass(frozen=True)
class Source:
    """A source of decoded images: the number of images of each of its batches, and how many it decodes in advance."""

    batches: Generator[int]
    num_ahead: int

    def images_per_second(self, *, seconds: float, cpu_seconds: list[float]) -> float:
        """Take batches for some seconds; the CPU time per image goes to `cpu_seconds`."""
        deque(islice(self.batches, self.num_ahead), maxlen=0)  # decoded while others were measured
        start, cpu_start, num_images = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < seconds:
            num_images += next(self.batches)
        elapsed = time.perf_counter() - start
        cpu_seconds.append((time.process_time() - cpu_start) / num_images)
        return num_images / elapsed


def open_sources(shards: Path, films: list[bytes], options: Options, *, size: int) -> dict[str, Source]:
    """Return the sources that decode on the CPU at one size, by name."""
    sources = {}
    for threads in SMALL_THREADS if options.is_small else [count for count in THREADS if count <= available_cores()]:
        ours = stream_batches(shards, options, threads=threads)
        decoder = decode_in_threads(films, size=size, threads=threads)
        sources[f"{OURS}, {threads}"] = Source(ours, BATCHES_AHEAD + 2)
        sources[f"{DECODER}, {threads}"] = Source(decoder, 2 * threads)
    return sources


def measure_sources(sources: dict[str, Source], *, seconds: float) -> dict[str, Any]:
    """Return the images per second, and the CPU time per image, of every source in each round of some seconds."""
    cpu_seconds: dict[str, list[float]] = {name: [] for name in sources}
    candidates: dict[str, Callable[[], float]] = {
        name: partial(source.images_per_second, seconds=seconds, cpu_seconds=cpu_seconds[name])
        for name, source in sources.items()
    }
    speeds = run_rounds(candidates, num_rounds=NUM_ROUNDS)
    for source in sources.values():
        source.batches.close()
    measured = {name: values[1:] for name, values in cpu_seconds.items()}  # without the warm-up
    return {"images_per_second": speeds, "cpu_seconds_per_image": measured}


def measure_size(shards: Path, films: list[bytes], options: Options, *, size: int) -> dict[str, Any]:
    """Return the measurements of all sources on the CPU at one size, and how well they scale."""
    result = measure_sources(open_sources(shards, films, options, size=size), seconds=_round_seconds(options))
    speeds = result["images_per_second"]
    print_table(speeds, unit=f"images per second at {size} pixels", reference=f"{OURS}, 1")
    of_linear = {name: scaling(speeds, name) for name in (OURS, DECODER)}
    return result | {"kilobytes_per_film": sum(map(len, films)) / len(films) / 1000, "of_linear": of_linear}


def measure_nvjpeg(films: dict[int, list[bytes]], options: Options, report: Report) -> None:
    """Report the speed of nvJPEG at each size, or why it was not measured; after the rest, because it may crash."""
    decode_jpeg, where = find_nvjpeg(options.device)
    measured: dict[str, Any] = {"found": where}
    print(f"{NVJPEG}: {where}")
    report.add(nvjpeg=measured)
    if decode_jpeg is None:
        return
    for size in films:
        sources = {NVJPEG: Source(decode_on_gpu(decode_jpeg, films[size]), 0)}
        result = measure_sources(sources, seconds=_round_seconds(options))
        print_table(result["images_per_second"], unit=f"images per second at {size} pixels", reference=NVJPEG)
        measured[str(size)] = result
        report.add(nvjpeg=measured)


def scaling(speeds: dict[str, list[float]], name: str) -> dict[int, float]:
    """Return the speed of each number of threads, divided by what linear scaling from one thread would give."""
    medians = {key: median(values) for key, values in speeds.items() if key.startswith(f"{name}, ")}
    one = medians[f"{name}, 1"]
    return {
        threads: value / one / threads for key, value in medians.items() if (threads := int(key.rpartition(" ")[2]))
    }


def measure(options: Options, report: Report) -> None:
    """Measure both sizes, and report each as soon as it is measured."""
    measured: dict[str, Any] = {}
    films: dict[int, list[bytes]] = {}
    for size in SMALL_SIZES if options.is_small else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            shards = write_set(Path(folder) / "set", options, size=size, num_hands=80 if options.is_small else 600)
            films[size] = read_films(shards)
            measured[str(size)] = measure_size(shards, films[size], options, size=size)
        report.add(sizes=measured)
    of_linear = measured[str(size)]["of_linear"][OURS]
    threads = max(of_linear)
    if threads < max(THREADS) and not options.is_small:
        report.add_error(f"{max(THREADS)} threads were not measured: {available_cores()} cores")
    report.add_targets([Target(f"of linear with {threads} threads at {size} px", of_linear[threads], minimum=0.80)])
    measure_nvjpeg(films, options, report)


def _round_seconds(options: Options) -> float:
    return SMALL_SECONDS if options.is_small else ROUND_SECONDS


if __name__ == "__main__":
    run_part("loader", __doc__, measure)
