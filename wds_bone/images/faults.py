"""Create the errors for unusable images that all decoders share.

In: the location, and what was found there.
Out: an `ImageError` to raise.
Invariant: every error says what to do.
"""

from wds_bone.errors import ImageError

MAX_PIXELS = 8192 * 8192


def check_size(height: int, width: int, *, where: str) -> None:
    """Refuse an image whose header states no pixels or more than `MAX_PIXELS`.

    Raises:
        ImageError: if the image is empty or too large.
    """
    is_empty = min(height, width) < 1
    if is_empty or height * width > MAX_PIXELS:
        raise ImageError(
            f"{where}: the image is {'empty' if is_empty else 'too large'}",
            expected=f"1 to {MAX_PIXELS:,} pixels",
            got=f"{width} x {height} = {width * height:,} pixels",
            do="leave the image out, or scale it down first",
        )


def damage_error(
    where: str, contents: bytes, error: object, *, do: str = "fetch or export the file again"
) -> ImageError:
    """Return the error for contents that cannot be decoded completely."""
    got = f"{len(contents):,} bytes: {error}"
    return ImageError(f"{where}: the image is damaged", expected="an intact file", got=got, do=do)


def frame_count_error(where: str, got: str) -> ImageError:
    """Return the error for an animation, a stack or a file of several pages."""
    do = "save the frame that shows the film as a separate file"
    return ImageError(f"{where}: the file does not hold a single image", expected="one image", got=got, do=do)


def color_error(where: str, got: object) -> ImageError:
    """Return the error for values whose brightness is not defined."""
    return ImageError(
        f"{where}: the color format is not supported",
        expected="gray (1 to 16 bits), RGB or a palette",
        got=got,
        do="convert the film to 8- or 16-bit gray, and check that black is still black",
    )
