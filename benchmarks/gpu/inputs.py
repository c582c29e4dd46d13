"""The shards that the parts read: of carried films, or of synthetic hands.

In: the settings of a part, and a size in pixels.
Out: a complete set with the splits train and val, in JPEG.
"""

from pathlib import Path

from benchmarks.gpu.carry import LABELS_NAME
from benchmarks.gpu.report import Options
from wds_bone.make_shards import main as make_shards


def write_set(folder: Path, options: Options, *, size: int, num_hands: int) -> Path:
    """Write a set of size x size pixels to `folder`, and return it; `num_hands` applies to synthetic hands."""
    if options.images is None:
        source = ["--synthetic", str(num_hands)]
    else:
        source = ["--labels", str(options.images / LABELS_NAME), "--images", str(options.images)]
    if make_shards(["--out", str(folder), "--size", str(size), *source]) != 0:
        raise SystemExit(f"{folder}: the shards were not written")
    return folder
