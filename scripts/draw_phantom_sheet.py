"""Draw the sheet of synthetic hands for the documentation: `python scripts/draw_phantom_sheet.py docs/phantom.png`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

if __package__ in (None, ""):
    # Allows running from a checkout without installing the package.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from wds_bone.command_line import Command, parse_config, run_command
from wds_bone.config import option
from wds_bone.phantom import Hand, draw_hand

AGES_MONTHS = (12, 24, 36, 48, 60, 84, 108, 132, 156, 168, 192, 216)
AGES_PER_LINE = 6
COMMAND = Command(
    "draw_phantom_sheet.py",
    "draw the sheet of synthetic hands",
    "Draw the sheet of synthetic hands in the documentation.",
    "python scripts/draw_phantom_sheet.py docs/phantom.png",
)
HAND_PIXELS = 240
HAND_COLUMNS = (20, 210)
CAPTION_PIXELS = 14
NUM_GRAYS = 32


@dataclass(frozen=True)
class SheetConfig:
    """The settings of the sheet."""

    path: Path = option("PNG file to write", positional=True, is_output=True)
    seed: int = option("seed of the one hand that is drawn at every age, as a girl's and as a boy's", default=5)


def draw_sheet(seed: int) -> Image.Image:
    """Return hands at twelve ages, girls above boys, all with the same bones, pose and exposure."""
    lines = [AGES_MONTHS[first : first + AGES_PER_LINE] for first in range(0, len(AGES_MONTHS), AGES_PER_LINE)]
    rows = [
        np.hstack([_draw_captioned(Hand("sheet", gender, age, age, seed, nuisances=())) for age in line])
        for line in lines
        for gender in ("F", "M")
    ]
    # Noise compresses badly; 32 grays look the same and halve the size of the file.
    return Image.fromarray(np.vstack(rows)).quantize(NUM_GRAYS, dither=Image.Dither.NONE)


def _draw_captioned(hand: Hand) -> NDArray[np.uint8]:
    first, last = HAND_COLUMNS
    image = Image.new("L", (last - first, HAND_PIXELS + CAPTION_PIXELS))
    image.paste(Image.fromarray(draw_hand(hand, HAND_PIXELS)[:, first:last]), (0, CAPTION_PIXELS))
    caption = f"{'girl' if hand.gender == 'F' else 'boy'}, {hand.true_age_months:.0f} months"
    ImageDraw.Draw(image).text((4, 1), caption, fill=255)
    return np.asarray(image)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the sheet and save it."""
    parse = partial(parse_config, SheetConfig, argv, COMMAND)
    return run_command(
        COMMAND, parse=parse, run=lambda config, _: draw_sheet(config.seed).save(config.path, optimize=True)
    )


if __name__ == "__main__":
    sys.exit(main())
