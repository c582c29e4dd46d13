"""Draw a contact sheet and an age histogram of a set, and format its sample counts.

In: a manifest and the folder of its shards.
Out: two PNG files, or text.
Invariant: everything is read back from the written files, so that a wrong label or a wrong orientation is visible; the
same set gives the same files.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wds_bone.shards.manifest import Manifest, ShardEntry, SplitEntry
from wds_bone.shards.sidecars import read_sidecar
from wds_bone.shards.statistics import AGE_BAND_MONTHS, NUM_AGE_BANDS
from wds_bone.storage.durable import write_bytes_atomically
from wds_bone.storage.location import Location, open_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHEET_NAME = "contact-sheet.png"
HISTOGRAM_NAME = "age-histogram.png"
BANDS_PER_COLUMN = 2  # two years per column, in the sheet and in the table
ROWS_PER_GENDER = 2
THUMBNAIL_PIXELS, CAPTION_PIXELS, MARGIN_PIXELS, FONT_PIXELS = 128, 20, 4, 10
MAX_KEY_LENGTH = 14
COLORS = {"F": "#c8553d", "M": "#2f6690"}
_CELL_WIDTH, _CELL_HEIGHT = THUMBNAIL_PIXELS + MARGIN_PIXELS, THUMBNAIL_PIXELS + CAPTION_PIXELS
_NUM_COLUMNS = NUM_AGE_BANDS // BANDS_PER_COLUMN


def write_pictures(folder: Path, manifest: Manifest) -> None:
    """Write the contact sheet and the age histogram into `folder`."""
    sheet, histogram = io.BytesIO(), io.BytesIO()
    draw_contact_sheet(folder, manifest).save(sheet, "PNG")
    draw_histogram(manifest).savefig(histogram, format="png", dpi=100, metadata={"Software": None})
    write_bytes_atomically(folder / SHEET_NAME, sheet.getvalue())
    write_bytes_atomically(folder / HISTOGRAM_NAME, histogram.getvalue())


def draw_contact_sheet(folder: Path, manifest: Manifest) -> Image.Image:
    """Return a sheet with two stored images for each gender and two-year age range; none is enlarged."""
    chosen = _choose_samples(folder, [shard for _, split in sorted(manifest.splits.items()) for shard in split.shards])
    size = (_NUM_COLUMNS * _CELL_WIDTH + MARGIN_PIXELS, 2 * ROWS_PER_GENDER * _CELL_HEIGHT + CAPTION_PIXELS)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PIXELS)
    total = sum(split.num_samples for split in manifest.splits.values())
    title = f"{len(chosen)} of {total:,} samples: key, gender, age in months"
    draw.text((size[0] / 2, CAPTION_PIXELS / 2), title, "black", font, anchor="mm")
    for (gender, column, slot), (caption, image) in chosen.items():
        left = MARGIN_PIXELS + column * _CELL_WIDTH
        top = CAPTION_PIXELS + ("FM".index(gender) * ROWS_PER_GENDER + slot) * _CELL_HEIGHT
        middle = left + THUMBNAIL_PIXELS / 2
        draw.text((middle, top + CAPTION_PIXELS / 2), caption, COLORS[gender], font, anchor="mm")
        sheet.paste(image, (int(middle - image.width / 2), top + CAPTION_PIXELS))
    return sheet


def draw_histogram(manifest: Manifest) -> "Figure":
    """Return a figure with one age histogram per split, with one bar per gender and year."""
    # Imported here because it takes as long as all other imports of the command together.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    height = 2.6 * len(manifest.splits)
    figure = FigureCanvasAgg(Figure(figsize=(8, height))).figure
    figure.subplots_adjust(left=0.09, right=0.98, top=1 - 0.3 / height, bottom=0.5 / height, hspace=0.2)
    rows = figure.subplots(len(manifest.splits), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, split) in zip(rows, sorted(manifest.splits.items()), strict=True):
        _draw_ages(axis, split)
        mean, sd = split.labels["age_months"]["mean"], split.labels["age_months"]["sd"]
        axis.set_title(f"{name}: {split.num_samples:,} samples, {mean:.1f} ± {sd:.1f} months", fontsize=10)
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    rows[-1].set_xticks(np.arange(0, 241, 24))
    rows[-1].set_xlabel("bone age in months")
    return figure


def format_counts(manifest: Manifest) -> str:
    """Return a table of the samples per split, gender and two-year age range, then a summary line per split."""
    width = max(len("split"), *map(len, manifest.splits))
    starts = range(0, NUM_AGE_BANDS * AGE_BAND_MONTHS, BANDS_PER_COLUMN * AGE_BAND_MONTHS)
    lines = ["samples per split, gender and bone age; columns: lower bound in months"]
    lines.append(f"{'split':<{width}}      all" + "".join(f"{start:>6}" for start in starts))
    for name, split in sorted(manifest.splits.items()):
        for gender in "FM":
            counts = np.reshape(split.labels["age_histogram"][gender], (-1, BANDS_PER_COLUMN)).sum(axis=1)
            cells = "".join(f"{count:>6}" for count in counts)
            lines.append(f"{name:<{width}} {gender}{split.labels['genders'][gender]:>7}{cells}")
    for name, split in sorted(manifest.splits.items()):
        age, megabytes = split.labels["age_months"], sum(shard.shard_bytes for shard in split.shards) / 1e6
        lines.append(
            f"{name}: {format_num_samples(split.num_samples, len(split.shards))}, {megabytes:,.1f} MB; "
            f"age {age['mean']:.1f} ± {age['sd']:.1f} months, {age['min']:g} to {age['max']:g}"
            + ("; films are grouped by patient" if all(shard.groups_sha256 for shard in split.shards) else "")
        )
    return "\n".join(lines)


def format_num_samples(num_samples: int, num_shards: int) -> str:
    """Return the number of samples and shards of a split as a phrase."""
    return f"{num_samples:,} samples in {num_shards} shard{'s' * (num_shards != 1)}"


def _draw_ages(axis: "Axes", split: SplitEntry) -> None:
    width = AGE_BAND_MONTHS / 2
    for shift, gender in ((0.0, "F"), (width, "M")):
        left = np.arange(NUM_AGE_BANDS) * AGE_BAND_MONTHS + shift
        counts, num_samples = split.labels["age_histogram"][gender], split.labels["genders"][gender]
        axis.bar(left, counts, width, align="edge", color=COLORS[gender], label=f"{gender}  {num_samples:,}")
    axis.set_ylabel("samples per year of age")
    axis.legend(loc="upper left", frameon=False)  # "best" searches for seconds on a slow machine
    axis.spines[["top", "right"]].set_visible(False)


def _choose_samples(folder: Path, shards: Sequence[ShardEntry]) -> dict[tuple[str, int, int], tuple[str, Image.Image]]:
    """Return (gender, column, slot) -> (caption, thumbnail) for the first samples of each gender and age range."""
    chosen: dict[tuple[str, int, int], tuple[str, Image.Image]] = {}
    for shard in shards:
        for row in read_sidecar(folder, shard):
            gender = row["gender"].decode()
            column = min(int(row["age_months"] // (BANDS_PER_COLUMN * AGE_BAND_MONTHS)), _NUM_COLUMNS - 1)
            free = [slot for slot in range(ROWS_PER_GENDER) if (gender, column, slot) not in chosen]
            if free:
                caption = f"{_shorten(row['key'].decode())}, {gender}, {row['age_months']:g}"
                chosen[gender, column, free[0]] = caption, _thumbnail(folder / shard.name, row)
    return chosen


def _thumbnail(shard: Location, row: np.void) -> Image.Image:
    with open_file(shard) as tar:
        tar.seek(int(row["offset"]))
        stream = io.BytesIO(tar.read(int(row["size"])))
    image = Image.fromarray(np.load(stream)) if row["encoding"] == b"npy" else Image.open(stream)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    return image.convert("L")


def _shorten(key: str) -> str:
    return key if len(key) <= MAX_KEY_LENGTH else key[: MAX_KEY_LENGTH - 3] + "..."
