"""Targets of the reading, training and resume benchmarks.

In: the measurements of a benchmark.
Out: its `Target`s, each with the measured value. `benchmarks.writer` and `benchmarks.shuffle` define their own.
"""

import statistics
from dataclasses import asdict, dataclass
from typing import Any

STREAMING_PEERS = ("litdata_chunks", "mosaic", "webdataset_tuned", "webdataset_documented", "spdl_files")
REMOTE_PEERS = {"webdataset_http": "ours_http", "webdataset_curl": "ours_http", "mosaic_s3": "ours_s3"}
MIN_FRACTION_OF_DECODER = {(256, "jpg"): 0.90, (512, "jpg"): 0.95}


@dataclass(frozen=True)
class Target:
    """A measured value and its target range; a bound that is None does not apply."""

    description: str
    value: float
    minimum: float | None = None
    maximum: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the value is within the range."""
        above = self.minimum is None or self.value >= self.minimum
        below = self.maximum is None or self.value <= self.maximum
        return above and below


def as_json(target: Target) -> dict[str, Any]:
    """Return a target in plain JSON types, for a result."""
    return {**asdict(target), "is_met": target.is_met}


def loader_targets(speeds: dict[str, list[float]], *, size: int, encoding: str) -> list[Target]:
    """Return the targets of `benchmarks.loader` that apply to the loaders that ran."""
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    ours, targets = speed["ours"], []
    if "decode_only" in speed and (size, encoding) in MIN_FRACTION_OF_DECODER:
        minimum = MIN_FRACTION_OF_DECODER[size, encoding]
        targets.append(Target("of the fastest decoder alone", ours / speed["decode_only"], minimum=minimum))
    if "dali" in speed and encoding == "jpg":
        targets.append(Target("times DALI on the CPU", ours / speed["dali"], minimum=1.25))
    if encoding == "jpg" and (peers := [speed[name] for name in STREAMING_PEERS if name in speed]):
        targets.append(Target("times the fastest of the other streaming loaders", ours / max(peers), minimum=2.0))
    if "in_ram" in speed and (size, encoding) == (256, "npy"):
        targets.append(Target("times the generator with everything in RAM", ours / speed["in_ram"], minimum=3.0))
    return targets


def memory_targets(megabytes: dict[str, list[float]]) -> list[Target]:
    """Return the targets of `benchmarks.memory`: an upper bound, and no growth with the size of the dataset."""
    ours = megabytes.get("ours", [])
    if not ours:
        return []
    return [
        Target("MB above the imports", max(ours), maximum=250.0),
        Target("times the memory for 16 times the samples", ours[-1] / ours[0], maximum=1.05),
    ]


def cold_targets(speeds: dict[str, list[float]]) -> list[Target]:
    """Return the target of `benchmarks.cold`."""
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    limit = min(speed[name] for name in ("reading_only", "decode_only") if name in speed)
    if "ours" not in speed:
        return []
    return [Target("of the slower of reading and decoding", speed["ours"] / limit, minimum=0.90)]


def resume_targets(milliseconds: dict[str, list[float]], *, opened_seconds: float, index_bytes: float) -> list[Target]:
    """Return the targets of `benchmarks.resume`."""
    start, late = (statistics.median(milliseconds[point]) for point in ("at 0%", "at 99%"))
    return [
        Target("seconds to the first batch at 99 % of an epoch", late / 1000, maximum=0.1),
        Target("times the time to the first batch at the start", late / start, maximum=1.1),
        Target("seconds to open the index", opened_seconds, maximum=5.0),
        Target("bytes of index per sample", index_bytes, maximum=40.0),
    ]


def headspace_targets(speeds: dict[str, list[float]], *, wait_fraction: float) -> list[Target]:
    """Return the targets of `benchmarks.headspace`."""
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    targets = [
        Target("of the speed on one cached batch", speed["stream"] / speed["one cached batch"], minimum=0.98),
        Target("of the time is spent waiting for batches", wait_fraction, maximum=0.01),
    ]
    if "plain script, all in RAM" in speed:
        ratio = speed["stream"] / speed["plain script, all in RAM"]
        targets.append(Target("times a plain script with everything in RAM", ratio, minimum=1.0))
    return targets


def remote_targets(seconds: dict[str, dict[str, list[float]]], megabytes: dict[str, float]) -> list[Target]:
    """Return the targets of `benchmarks.remote`; the first epoch is compared with the link, or without one with peers.

    Args:
        seconds: of `first_batch`, `first_epoch` and `second_epoch`, by candidate, in each round.
        megabytes: memory above the imports, by candidate.
    """
    batch, first, second = (
        {name: statistics.median(values) for name, values in seconds[kind].items()}
        for kind in ("first_batch", "first_epoch", "second_epoch")
    )
    targets = []
    for name in (name for name in ("ours_http", "ours_s3") if name in second):
        cached = second["ours_local"] / second[name]
        targets.append(Target(f"{name}: of the speed of local files, once cached", cached, minimum=0.97))
        if "link" in first:
            targets.append(Target(f"{name}: of what the link carries", first["link"] / first[name], minimum=0.90))
        targets.append(Target(f"{name}: seconds to the first batch", batch[name], maximum=1.5))
        above = megabytes[name] - megabytes["ours_local"]
        targets.append(Target(f"{name}: MB above local files", above, maximum=200.0))
    if "link" not in first:
        targets += [
            Target(f"times {peer}, first epoch", first[peer] / first[ours], minimum=1.5)
            for peer, ours in REMOTE_PEERS.items()
            if peer in first and ours in first
        ]
    return targets
