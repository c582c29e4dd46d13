"""Write films with MosaicML's MDSWriter in a loop, with the same Pillow work as the other writers.

In: the folder to write and the image size as arguments; the films as JSON on standard input.
Out: MDS shards; the seconds that writing took, on standard output. Imports are not timed.

`benchmarks.writer` runs this as a separate program, because the requirements of MosaicML streaming conflict with those
of wds_bone.

    python -m benchmarks.mosaic_writer OUT SIZE < films.json
"""

import json
import sys
import time
from pathlib import Path

from streaming import MDSWriter

from benchmarks.writer import pillow_sample
from benchmarks.writer_inputs import Film


def main() -> None:
    """Write the films that standard input lists, one by one, in shards of 64 MiB."""
    out, size = sys.argv[1], int(sys.argv[2])
    films = [Film(Path(path), gender, age_months) for path, gender, age_months in json.load(sys.stdin)]
    columns = {"image": "bytes", "age_months": "int", "gender": "str"}
    pillow_sample(films[0], size)  # Pillow imports its formats on first use
    start = time.perf_counter()
    with MDSWriter(out=out, columns=columns) as shards:
        for film in films:
            shards.write(pillow_sample(film, size))
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
