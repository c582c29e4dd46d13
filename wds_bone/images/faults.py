"""Create the errors for unusable images that all decoders share.

In: the location, and what was found there.
Out: an `ImageError` to raise.
Invariant: every error says what to do.
"""

from wds_bone.errors import ImageError

MAX_PIXELS = 8192 * 8192
_SPACING_TOLERANCE = 0.01


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


def check_pixels_are_square(name: str, first: float, second: float, *, where: str) -> None:
    """Refuse an image that states different sizes of its pixels along rows and columns; it would appear stretched.

    Args:
        name: the element, tag or chunk that states the sizes.
        first: the size or density along one axis; values that are not positive are not judged.
        second: the size or density along the other axis.
        where: the file, for error messages.

    Raises:
        ImageError: if the two differ by more than 1 %.
    """
    if min(first, second) > 0 and abs(first - second) > _SPACING_TOLERANCE * second:
        raise film_error(
            where,
            "the pixels are not square",
            f"two equal numbers in {name}",
            f"{first:g} and {second:g}",
            do="resample the film to square pixels, correct the numbers if they are wrong, or leave the film out",
        )


def film_error(
    where: str,
    problem: str,
    expected: str,
    got: object,
    *,
    do: str = "leave the film out, or export it with other settings",
) -> ImageError:
    """Return the error for a film that can be decoded but not interpreted."""
    return ImageError(f"{where}: {problem}", expected=expected, got=got, do=do)


def damage_error(
    where: str, contents: bytes, error: object, *, do: str = "fetch or export the file again"
) -> ImageError:
    """Return the error for contents that cannot be decoded completely, or for which memory did not suffice."""
    if isinstance(error, MemoryError):
        problem, do = f"{where}: too little memory for the image", "free memory, or leave the image out"
        return ImageError(problem, expected="enough memory to decode it", got=f"{len(contents):,} bytes of file", do=do)
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
        expected="gray (4 to 16 bits), RGB or a palette",
        got=got,
        do="convert the film to 8- or 16-bit gray, and check that black is still black",
    )
