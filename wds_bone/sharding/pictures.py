"""Draw a contact sheet and an age histogram of a set.

In: a manifest and the folder of its shards.
Out: two PNG files.
Invariant: everything is read back from the written files, so that a wrong label or a wrong orientation is visible; the
same set gives the same files.
"""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from PIL import Image, ImageDraw, ImageFont

from wds_bone.errors import ShardError
from wds_bone.figure_style import (
    GENDER_COLORS,
    INK,
    SMALL_POINTS,
    add_legend,
    figure_as_png,
    label_axes,
    new_figure,
    set_age_ticks,
)
from wds_bone.labels.values import GENDER_NAMES
from wds_bone.sharding.overview import BANDS_PER_COLUMN, HISTOGRAM_NAME, SHEET_NAME
from wds_bone.shards.manifest import Manifest, ShardEntry, SplitEntry
from wds_bone.shards.sidecars import read_sidecars
from wds_bone.shards.statistics import AGE_BAND_MONTHS, NUM_AGE_BANDS
from wds_bone.storage.durable import write_bytes_atomically
from wds_bone.storage.location import Location, read_range

ROWS_PER_GENDER = 2
THUMBNAIL_PIXELS, CAPTION_PIXELS, MARGIN_PIXELS, FONT_PIXELS = 128, 20, 4, 10
MAX_KEY_LENGTH = 14
_CELL_WIDTH, _CELL_HEIGHT = THUMBNAIL_PIXELS + MARGIN_PIXELS, THUMBNAIL_PIXELS + CAPTION_PIXELS
_NUM_COLUMNS = NUM_AGE_BANDS // BANDS_PER_COLUMN
_INCHES, _INCHES_PER_SPLIT = (5.5, 1.5), 1.9


def write_pictures(folder: Location, manifest: Manifest) -> None:
    """Write the contact sheet and the age histogram into `folder`."""
    sheet = io.BytesIO()
    draw_contact_sheet(folder, manifest).save(sheet, "PNG")
    write_bytes_atomically(folder / SHEET_NAME, sheet.getvalue())
    write_bytes_atomically(folder / HISTOGRAM_NAME, figure_as_png(draw_histogram(manifest)))


def draw_contact_sheet(folder: Location, manifest: Manifest) -> Image.Image:
    """Return a sheet with two stored images for each gender and two-year age range; none is enlarged."""
    chosen = _choose_samples(folder, [shard for _, split in sorted(manifest.splits.items()) for shard in split.shards])
    size = (_NUM_COLUMNS * _CELL_WIDTH + MARGIN_PIXELS, 2 * ROWS_PER_GENDER * _CELL_HEIGHT + CAPTION_PIXELS)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PIXELS)
    total = sum(split.num_samples for split in manifest.splits.values())
    title = f"{len(chosen)} of {total:,} samples: key, gender, age in months"
    draw.text((size[0] / 2, CAPTION_PIXELS / 2), title, INK, font, anchor="mm")
    for (gender, column, slot), (caption, image) in chosen.items():
        left = MARGIN_PIXELS + column * _CELL_WIDTH
        top = CAPTION_PIXELS + ("FM".index(gender) * ROWS_PER_GENDER + slot) * _CELL_HEIGHT
        middle = left + THUMBNAIL_PIXELS / 2
        draw.text((middle, top + CAPTION_PIXELS / 2), caption, INK, font, anchor="mm")
        sheet.paste(image, (int(middle - image.width / 2), top + CAPTION_PIXELS))
    return sheet


def draw_histogram(manifest: Manifest) -> Figure:
    """Return a figure with one age histogram per split, with one bar per gender and year."""
    splits, (width, height) = sorted(manifest.splits.items()), _INCHES
    num_samples = sum(split.num_samples for _, split in splits)
    inches = (width, height + _INCHES_PER_SPLIT * len(splits))
    figure, rows = new_figure("Ages of the samples", f"n = {num_samples:,}", num_rows=len(splits), inches=inches)
    for axes, (name, split) in zip(rows, splits, strict=True):
        _draw_ages(axes, split)
        axes.set_title(f"{name}: {_describe_split(split)}", loc="left", fontsize=SMALL_POINTS)
    rows[-1].set_xlim(0, NUM_AGE_BANDS * AGE_BAND_MONTHS)
    set_age_ticks(rows[-1].xaxis)
    label_axes(rows[-1], x="bone age in months")
    figure.align_ylabels()
    add_legend(figure)
    return figure


def _describe_split(split: SplitEntry) -> str:
    counts = ", ".join(f"{split.labels['genders'][gender]:,} {name}" for gender, name in GENDER_NAMES.items())
    age = split.labels["age_months"]
    return f"{counts}, mean {age['mean']:.1f} months, SD {age['sd']:.1f}"


def _draw_ages(axes: Axes, split: SplitEntry) -> None:
    width, place = AGE_BAND_MONTHS / 2, axes.get_subplotspec()
    is_first = place is not None and place.is_first_row()
    for number, (gender, name) in enumerate(GENDER_NAMES.items()):
        left = np.arange(NUM_AGE_BANDS) * AGE_BAND_MONTHS + number * width
        counts = split.labels["age_histogram"][gender]
        axes.bar(
            left,
            counts,
            width,
            align="edge",
            color=GENDER_COLORS[gender],
            edgecolor="white",
            linewidth=0.4,
            label=name if is_first else None,
        )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(visible=False, axis="x")
    label_axes(axes, y="samples per year")


def _choose_samples(
    folder: Location, shards: Sequence[ShardEntry]
) -> dict[tuple[str, int, int], tuple[str, Image.Image]]:
    """Return (gender, column, slot) -> (caption, thumbnail) for the first samples of each gender and age range."""
    chosen: dict[tuple[str, int, int], tuple[str, Image.Image]] = {}
    for shard, table in zip(shards, read_sidecars(folder, shards), strict=True):
        for row in table:
            gender = row["gender"].decode()
            column = min(int(row["age_months"] // (BANDS_PER_COLUMN * AGE_BAND_MONTHS)), _NUM_COLUMNS - 1)
            free = [slot for slot in range(ROWS_PER_GENDER) if (gender, column, slot) not in chosen]
            if free:
                caption = f"{_shorten(row['key'].decode())}, {gender}, {row['age_months']:g}"
                chosen[gender, column, free[0]] = caption, _thumbnail(folder / shard.name, row)
    return chosen


def _thumbnail(shard: Location, row: np.void) -> Image.Image:
    try:
        stream = io.BytesIO(read_range(shard, int(row["offset"]), int(row["size"])))
    except OSError as error:
        problem = f"{shard}: cannot be read: {error.strerror}"
        raise ShardError(problem, do="run the command again to continue where it stopped") from error
    image = Image.fromarray(np.load(stream)) if row["encoding"] == b"npy" else Image.open(stream)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    return image.convert("L")


def _shorten(key: str) -> str:
    return key if len(key) <= MAX_KEY_LENGTH else key[: MAX_KEY_LENGTH - 3] + "..."
