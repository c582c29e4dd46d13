"""How long does it take to predict the ages of many films, and what takes the time?

Command:   python -m benchmarks.predict [--images FOLDER] [--num-films 1000] [--size 512] [--model resnet18]
Compared:  `predict_films`; reading and decoding the same films only; the forward passes only, on one cached batch.
           If reading and the forward passes overlapped perfectly, the whole would take as long as the slower part. On
           a CPU they share the cores, so that the whole takes at least the CPU time of both, divided by the cores.
Method:    synthetic hands as PNG, or films; an untrained model; seconds of the clock and of the CPU. The peak of the
           memory is compared with that of a process that has predicted one batch.
Machine:   a CPU, or one CUDA GPU.
Result:    benchmarks/results/predict-<model>-<size>-<device>.json.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import torch

from benchmarks.films import encode_films
from benchmarks.rounds import add_rounds_argument, print_table, run_rounds, save_result
from wds_bone.distributed.hardware import default_threads, pick_device
from wds_bone.images.read_ahead import read_ahead
from wds_bone.inference.ensemble import Ensemble, ensemble_of
from wds_bone.inference.films import BATCH_SIZE, predict_films
from wds_bone.inference.predictor import Predictor
from wds_bone.inference.stored_film import store_film
from wds_bone.model.loss import Target
from wds_bone.model.model import build_model
from wds_bone.model.preprocess import plan_preprocessing
from wds_bone.shards.manifest import ImageFormat
from wds_bone.stream.load import BATCHES_AHEAD
from wds_bone.stream.settings import available_cores

WHOLE, READ, FORWARD = "predict_films", "read and decode", "forward passes"


def write_films(folder: Path, images: Path | None, *, size: int, num_films: int) -> list[Path]:
    """Write up to 240 different films as PNG, and return `num_films` paths of them; or return the films in `images`."""
    if images is not None:
        return list(islice(cycle(sorted(path for path in images.iterdir() if path.is_file())), num_films))
    paths = []
    for number, film in enumerate(islice(encode_films(None, size=size, encoding="png"), num_films)):
        paths.append(folder / f"{number}.png")
        paths[-1].write_bytes(film)
    return list(islice(cycle(paths), num_films))


def untrained(model: str, *, size: int, device: torch.device) -> Ensemble:
    """Return an untrained model of films that are letterboxed and stored as JPEG."""
    preprocessing = plan_preprocessing(ImageFormat("jpg", size, size, 95, "letterbox"), None)
    network = build_model(model).requires_grad_(False).eval()
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ensemble_of(Predictor(network, preprocessing, Target(127.0, 41.0), torch.float32))


def read_only(ensemble: Ensemble, films: list[Path], *, threads: int) -> None:
    """Read all films as `predict_films` does."""
    store = partial(store_film, formats=ensemble.image_formats)
    named = ((str(film), film) for film in films)
    for _ in read_ahead(named, store, threads=threads, ahead=max(threads, BATCHES_AHEAD * BATCH_SIZE)):
        pass


def forward_only(ensemble: Ensemble, films: list[Path], *, size: int, device: torch.device) -> None:
    """Run the forward passes of all films on one batch that stays on the device."""
    image = torch.randint(0, 256, (BATCH_SIZE, 1, size, size), dtype=torch.uint8, device=device)
    gender = torch.zeros(BATCH_SIZE, device=device)
    for _ in range(-(-len(films) // BATCH_SIZE)):
        ensemble.predict_members(image, gender).cpu()


def timed(run: Callable[[], object], cpu_seconds: list[float]) -> Callable[[], float]:
    """Return a function that runs `run` and returns the seconds it took; those of the CPU go to `cpu_seconds`."""

    def measure() -> float:
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        cpu_seconds.append(time.process_time() - cpu_start)
        return time.perf_counter() - start

    return measure


def peak_mebibytes() -> float:
    """Return the largest memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="folder of films (default: synthetic hands)")
    parser.add_argument("--num-films", type=int, default=1000, metavar="N", help="films (default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, metavar="PIXELS", help="side of the model's input")
    parser.add_argument("--model", default="resnet18", metavar="NAME", help="(default: %(default)s)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add_rounds_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Run the rounds, print them and save them."""
    args = parse_args()
    device = pick_device(args.device)
    threads = default_threads(device) or available_cores()
    ensemble = untrained(args.model, size=args.size, device=device)
    with tempfile.TemporaryDirectory() as folder:
        films = write_films(Path(folder), args.images, size=args.size, num_films=args.num_films)
        genders = ["F"] * len(films)

        def predict(paths: list[Path]) -> None:
            list(predict_films(ensemble, paths, genders[: len(paths)], device=device, threads=threads))

        predict(films[:BATCH_SIZE])
        one_batch = peak_mebibytes()
        cpu_seconds: dict[str, list[float]] = {WHOLE: [], READ: [], FORWARD: []}
        runs: dict[str, Callable[[], object]] = {
            WHOLE: partial(predict, films),
            READ: partial(read_only, ensemble, films, threads=threads),
            FORWARD: partial(forward_only, ensemble, films, size=args.size, device=device),
        }
        candidates = {name: timed(run, cpu_seconds[name]) for name, run in runs.items()}
        seconds = run_rounds(candidates, num_rounds=args.rounds, warm_up=False)  # minutes each, and a batch is done
        added = peak_mebibytes() - one_batch
    print_table(seconds, unit=f"seconds for {args.num_films:,} films", reference=WHOLE)
    for name, values in cpu_seconds.items():
        print(f"{name}: {statistics.median(values):.1f} seconds of the CPU")
    print(f"memory beyond that of one batch: {added:.0f} MiB of {one_batch:.0f} MiB")
    settings = {"num_films": args.num_films, "size": args.size, "model": args.model, "threads": threads}
    measured = {"seconds": seconds, "cpu_seconds": cpu_seconds, "one_batch_mib": one_batch, "added_mib": added}
    print(save_result(f"predict-{args.model}-{args.size}-{device}", {**settings, **measured}))


if __name__ == "__main__":
    main()
