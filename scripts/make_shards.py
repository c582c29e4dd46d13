"""Write labeled hand radiographs, or synthetic ones, as tar shards: `python scripts/make_shards.py --help`."""

import sys
from pathlib import Path

if __package__ in (None, ""):
    # A checkout works without being installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from wds_bone.__main__ import start

if __name__ == "__main__":
    start("make-shards")
