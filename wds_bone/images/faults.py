"""What makes an image unusable, in words; shared by the decoders.

In: the place and what was found there. Out: an `ImageError` to raise. Invariant: every one says what to do.
"""

from wds_bone.errors import ImageError

MAX_PIXELS = 8192 * 8192


def check_size(height: int, width: int, *, where: str) -> None:
    """Refuse an image without pixels or with more than `MAX_PIXELS`, as its header gives them.

    Raises:
        ImageError: as said.
    """
    is_empty = min(height, width) < 1
    if is_empty or height * width > MAX_PIXELS:
        raise ImageError(
            f"{where}: the image is {'empty' if is_empty else 'too large'}",
            expected=f"1 to {MAX_PIXELS:,} pixels",
            got=f"{width} x {height} = {width * height:,} pixels",
            do="leave the image out, or scale it down first",
        )


def damaged(where: str, contents: bytes, error: object, *, do: str = "fetch or export the file again") -> ImageError:
    """Return the error for contents that cannot be decoded to the end."""
    got = f"{len(contents):,} bytes: {error}"
    return ImageError(f"{where}: the image is damaged", expected="an intact file", got=got, do=do)


def several_frames(where: str, got: str) -> ImageError:
    """Return the error for an animation, a stack or a document of pages."""
    do = "save the frame that is meant as a file of its own"
    return ImageError(f"{where}: not one still image", expected="one image", got=got, do=do)


def unknown_colors(where: str, got: object) -> ImageError:
    """Return the error for values of which nothing says how bright they are."""
    return ImageError(
        f"{where}: no rule turns these values into gray",
        expected="gray of 1 to 16 bits, RGB or a palette",
        got=got,
        do="convert the film to gray of 8 or 16 bits, and look whether black is still black",
    )
