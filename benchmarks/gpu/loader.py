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
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
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
from wds_bone.stream.settings import available_cores

THREADS, SIZES, NUM_ROUNDS, ROUND_SECONDS = (1, 2, 4, 8, 16), (256, 512), 3, 1.5
SMALL_THREADS, SMALL_SIZES, SMALL_SECONDS = (1, 2), (64, 128), 0.1
OURS, DECODER, NVJPEG = "stream", "decoder alone", "nvJPEG"


def images_per_second(batches: Iterator[int], *, seconds: float, cpu_seconds: list[float]) -> float:
    """Take batches for some seconds, and return the images per second; the CPU time per image goes to `cpu_seconds`.

    Args:
        batches: yields the number of images of each batch.
        seconds: how long to take batches.
        cpu_seconds: a list to append to.
    """
    next(batches)  # what was loaded in advance
    start, cpu_start, num_images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        num_images += next(batches)
    elapsed = time.perf_counter() - start
    cpu_seconds.append((time.process_time() - cpu_start) / num_images)
    return num_images / elapsed


def stream_batches(shards: Path, options: Options, *, threads: int) -> Iterator[int]:
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


def measure_size(shards: Path, options: Options, *, size: int, stack: ExitStack) -> dict[str, Any]:
    """Return the images per second, and the CPU time per image, of every candidate at one size."""
    films, seconds = read_films(shards), SMALL_SECONDS if options.is_small else ROUND_SECONDS
    sources: dict[str, Iterator[int]] = {}
    for threads in SMALL_THREADS if options.is_small else [count for count in THREADS if count <= available_cores()]:
        sources[f"{OURS}, {threads}"] = stream_batches(shards, options, threads=threads)
        sources[f"{DECODER}, {threads}"] = decode_in_threads(films, size=size, threads=threads)
    nvjpeg = find_nvjpeg(options.device)
    if nvjpeg is not None:
        sources[NVJPEG] = decode_on_gpu(nvjpeg, films)
    cpu_seconds: dict[str, list[float]] = {name: [] for name in sources}
    candidates: dict[str, Callable[[], float]] = {
        name: partial(images_per_second, source, seconds=seconds, cpu_seconds=cpu_seconds[name])
        for name, source in sources.items()
    }
    for source in sources.values():
        stack.callback(source.close)
    speeds = run_rounds(candidates, num_rounds=NUM_ROUNDS)
    print_table(speeds, unit=f"images per second at {size} pixels", reference=f"{OURS}, 1")
    kilobytes = sum(map(len, films)) / len(films) / 1000
    return {"images_per_second": speeds, "cpu_seconds_per_image": cpu_seconds, "kilobytes_per_film": kilobytes}


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
    nvjpeg = find_nvjpeg(options.device)
    report.add(nvjpeg="not available" if nvjpeg is None else nvjpeg.__module__)
    for size in SMALL_SIZES if options.is_small else SIZES:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            shards = write_set(Path(folder) / "set", options, size=size, num_hands=80 if options.is_small else 600)
            result = measure_size(shards, options, size=size, stack=stack)
        result["of_linear"] = {name: scaling(result["images_per_second"], name) for name in (OURS, DECODER)}
        measured[str(size)] = result
        report.add(sizes=measured)
    of_linear = result["of_linear"][OURS]
    threads = max(of_linear)
    if threads < max(THREADS) and not options.is_small:
        report.add_error(f"{max(THREADS)} threads were not measured: {available_cores()} cores")
    report.add_targets([Target(f"of linear with {threads} threads at {size} px", of_linear[threads], minimum=0.80)])


if __name__ == "__main__":
    run_part("loader", __doc__, measure)
