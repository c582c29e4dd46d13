"""What the benchmarks of reading are measured against; those of writing and mixing hold their own."""

import statistics
from dataclasses import dataclass

STREAMING_PEERS = ("litdata_chunks", "mosaic", "webdataset_tuned", "webdataset_documented", "spdl_files")
OF_THE_LIMIT = {(256, "jpg"): 0.90, (512, "jpg"): 0.95}


@dataclass(frozen=True)
class Target:
    """A figure that was measured, and what it should be: at least `least`, at most `most`."""

    what: str
    figure: float
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the figure lies where it should."""
        return (self.least is None or self.figure >= self.least) and (self.most is None or self.figure <= self.most)


def loader_targets(figures: dict[str, list[float]], *, size: int, encoding: str) -> list[Target]:
    """Return the targets of `benchmarks.loader` that these entrants allow to judge."""
    speed = {name: statistics.median(values) for name, values in figures.items()}
    ours, targets = speed["ours"], []
    if "decode_only" in speed and (size, encoding) in OF_THE_LIMIT:
        least = OF_THE_LIMIT[size, encoding]
        targets.append(Target("of the fastest decoder alone", ours / speed["decode_only"], least=least))
    if "dali" in speed and encoding == "jpg":
        targets.append(Target("times DALI on the CPU", ours / speed["dali"], least=1.25))
    if encoding == "jpg" and (peers := [speed[name] for name in STREAMING_PEERS if name in speed]):
        targets.append(Target("times the best of the other streaming peers", ours / max(peers), least=2.0))
    if "in_ram" in speed and (size, encoding) == (256, "npy"):
        targets.append(Target("times the generator with everything in RAM", ours / speed["in_ram"], least=3.0))
    return targets


def memory_targets(megabytes: dict[str, list[float]]) -> list[Target]:
    """Return the targets of `benchmarks.memory`: a bound, and that memory does not grow with the data set."""
    ours = megabytes.get("ours", [])
    if not ours:
        return []
    return [
        Target("MB above the imports", max(ours), most=250.0),
        Target("times as much for 16 times the samples", ours[-1] / ours[0], most=1.05),
    ]


def cold_targets(figures: dict[str, list[float]]) -> list[Target]:
    """Return the target of `benchmarks.cold`."""
    speed = {name: statistics.median(values) for name, values in figures.items()}
    limit = min(speed[name] for name in ("reading_only", "decode_only") if name in speed)
    return (
        [Target("of the slower of reading and decoding", speed["ours"] / limit, least=0.90)] if "ours" in speed else []
    )


def resume_targets(milliseconds: dict[str, list[float]], *, opened_seconds: float, index_bytes: float) -> list[Target]:
    """Return the targets of `benchmarks.resume`."""
    start, late = (statistics.median(milliseconds[point]) for point in ("at 0%", "at 99%"))
    return [
        Target("seconds to the first batch at 99 % of an epoch", late / 1000, most=0.1),
        Target("times a start", late / start, most=1.1),
        Target("seconds to open the index", opened_seconds, most=5.0),
        Target("bytes of index a sample", index_bytes, most=40.0),
    ]


def headspace_targets(figures: dict[str, list[float]], *, wait_fraction: float) -> list[Target]:
    """Return the targets of `benchmarks.headspace`."""
    speed = {name: statistics.median(values) for name, values in figures.items()}
    targets = [
        Target("of the same steps on one cached batch", speed["stream"] / speed["one cached batch"], least=0.98),
        Target("of the time waiting for batches", wait_fraction, most=0.01),
    ]
    if "plain script, all in RAM" in speed:
        ratio = speed["stream"] / speed["plain script, all in RAM"]
        targets.append(Target("times a plain script with everything in RAM", ratio, least=1.0))
    return targets
