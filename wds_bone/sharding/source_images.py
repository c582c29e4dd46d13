"""Read or draw the images of sources, in the format in which they are stored.

In: sources, in the order of their shard.
Out: their images, or the errors of those that cannot be read; what else is stored of a sample.
Invariant: each film is read once, and is the one that was planned, as far as its size tells. A bounded number of films
is in memory.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ImageError, WdsBoneError
from wds_bone.images.contents import FileFormat
from wds_bone.images.read import decode_image, letterbox, read_contents
from wds_bone.images.read_ahead import read_ahead
from wds_bone.objects.url import Url
from wds_bone.phantom import Hand, draw_hand, hand_ground_truth
from wds_bone.sharding.sources import Source
from wds_bone.shards.manifest import ImageFormat

FILMS_AHEAD = 8
"""How many films in object storage are read at the same time, and kept in memory, for one shard; fewer large ones."""
_Contents = tuple[bytes, FileFormat] | None


def read_sources(
    sources: Sequence[Source], image: ImageFormat
) -> Iterator[tuple[Source, NDArray[np.uint8] | WdsBoneError]]:
    """Yield each source and its image in the format `image`, uint8 (height, width): read and letterboxed, or drawn.

    Instead of an image, it is the error if the film cannot be read, or its size changed after planning. Films in object
    storage are read ahead in threads, up to `FILMS_AHEAD` of them.
    """
    contents: Iterator[_Contents | WdsBoneError] = map(_read_contents_or_error, sources)
    if any(isinstance(source.image, Url) for source in sources):
        contents = read_ahead(sources, _read_contents, threads=FILMS_AHEAD, ahead=FILMS_AHEAD, bytes_of=_num_bytes)
    for source, found in zip(sources, contents, strict=True):
        yield source, found if isinstance(found, WdsBoneError) else _make_image_or_error(source, found, image)


def _num_bytes(source: Source) -> int:
    return source.fingerprint if isinstance(source.fingerprint, int) else 0


def _read_contents(source: Source) -> _Contents:
    """Return the contents of a film and their format, none of a hand.

    Raises:
        ImageError: if the film cannot be read, or its size changed after planning.
    """
    if isinstance(source.image, Hand):
        return None
    contents = read_contents(source.image)
    if len(contents[0]) != source.fingerprint:
        raise ImageError(
            f"{source.image}: changed since the work was planned",
            expected=f"{source.fingerprint:,} bytes",
            got=f"{len(contents[0]):,} bytes",
            do="run the command again when nothing is writing to the folder",
        )
    return contents


def _read_contents_or_error(source: Source) -> _Contents | WdsBoneError:
    try:
        return _read_contents(source)
    except WdsBoneError as error:
        return error


def _make_image_or_error(source: Source, contents: _Contents, image: ImageFormat) -> NDArray[np.uint8] | WdsBoneError:
    if isinstance(source.image, Hand):
        return draw_hand(source.image, image.height)
    assert contents is not None
    try:
        return letterbox(decode_image(*contents, stretch=image.stretch, where=str(source.image)), image.height)
    except WdsBoneError as error:
        return error


def sample_fields(source: Source) -> dict[str, Any]:
    """Return the JSON fields of a sample: its label, and the parameters of a synthetic hand."""
    age = source.label.age_months
    facts = {"age_months": int(age) if float(age).is_integer() else age, "gender": source.label.gender}
    return facts | (hand_ground_truth(source.image) if isinstance(source.image, Hand) else {})
