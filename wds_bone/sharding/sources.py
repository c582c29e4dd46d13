"""Find the source of each sample: a labeled film, or a synthetic hand.

In: a label table and folders of films, or a number of hands to draw.
Out: a list of `Source`, and the image of a single source when it is needed.
Invariant: every label becomes a source, a rejected sample, or an error.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ImageError
from wds_bone.images.read import find_images, letterbox, read_image
from wds_bone.labels.read import Label, LabelColumns, RejectedSample, read_label_table
from wds_bone.phantom import Hand, draw_hand, hand_ground_truth, synthetic_hands
from wds_bone.shards.manifest import ImageFormat


@dataclass(frozen=True)
class Source:
    """One sample before it is written.

    Attributes:
        label: its key, gender and age.
        image: the path of the film, or the hand to draw.
        fingerprint: the size of the film in bytes, or a digest of the hand; the image is not read for it.
        id: the id in the label table if its keys are made from ids, else None.
    """

    label: Label
    image: Path | Hand
    fingerprint: int | str
    id: str | None = None


@dataclass(frozen=True)
class FilmSources:
    """The sources of all labels that have a film, the number of films without a label, and the hash of the table."""

    sources: list[Source]
    num_unlabeled: int
    table_sha256: str


def film_sources(
    table: Path, folders: Sequence[Path], columns: LabelColumns, *, rejected: list[RejectedSample] | None
) -> FilmSources:
    """Return a source per label that has a film.

    Args:
        table: the label table.
        folders: the folders of the films, whose file names are the ids.
        columns: the columns of the table, as for `read_label_table`.
        rejected: collects bad rows and labels without a film; None makes the first of them an error.

    Raises:
        LabelError: if `read_label_table` refuses the table.
        ImageError: if `find_images` refuses the folders, or if labels have no film.
    """
    read = read_label_table(table, columns, rejected=rejected)
    bad_keys = [bad.key for bad in rejected or ()]
    films = find_images(folders)
    by_name = {normalize("NFC", name): film for name, film in films.items()} if columns.safe_keys else films
    found = {label.key: find_film(read.ids.get(label.key, label.key), by_name) for label in read.labels}
    missing = {key: read.ids.get(key, key) for key, film in found.items() if film is None}
    num_rejected = sum(find_film(read.ids.get(key, key), by_name) is not None for key in bad_keys)
    if missing:
        _reject_missing(missing, len(found), table, films, rejected)
    sources = [
        Source(label, film, _file_bytes(film), read.ids.get(label.key, label.key) if columns.safe_keys else None)
        for label in read.labels
        if (film := found[label.key]) is not None
    ]
    return FilmSources(sources, len(films) - len(sources) - num_rejected, read.sha256)


def find_film(identity: str, films: Mapping[str, Path]) -> Path | None:
    """Return the film of an id: its name is the last part of the id, its folders end in the others, if there are any.

    Args:
        identity: an id such as `1377` or `train/1377`.
        films: the path of each film by its name without suffix.
    """
    *folders, name = [part for part in re.split(r"[/\\]", identity) if part not in ("", ".")] or [identity]
    film = films.get(name)
    is_there = film is not None and (not folders or list(film.parent.parts[-len(folders) :]) == folders)
    return film if is_there else None


def synthetic_sources(num_samples: int, *, seed: int, num_raters: int = 1) -> list[Source]:
    """Return a source per synthetic hand, labeled with the mean reading of `num_raters` raters."""
    hands = synthetic_hands(num_samples, seed=seed, num_raters=num_raters)
    return [Source(Label(hand.key, hand.gender, hand.age_months), hand, _hand_digest(hand)) for hand in hands]


def read_source(source: Source, image: ImageFormat) -> NDArray[np.uint8]:
    """Return the image of `source` in the format `image`, uint8 (height, width): read and letterboxed, or drawn.

    Raises:
        ImageError: if the film cannot be read, or its size changed after planning.
    """
    if isinstance(source.image, Hand):
        return draw_hand(source.image, image.height)
    pixels = letterbox(read_image(source.image, stretch=image.stretch), image.height)
    found_bytes = _file_bytes(source.image)
    if found_bytes != source.fingerprint:
        raise ImageError(
            f"{source.image}: changed since the work was planned",
            expected=f"{source.fingerprint:,} bytes",
            got=f"{found_bytes:,} bytes",
            do="run the command again when nothing is writing to the folder",
        )
    return pixels


def sample_fields(source: Source) -> dict[str, Any]:
    """Return the JSON fields of a sample: its label, and the parameters of a synthetic hand."""
    age = source.label.age_months
    facts = {"age_months": int(age) if float(age).is_integer() else age, "gender": source.label.gender}
    return facts | (hand_ground_truth(source.image) if isinstance(source.image, Hand) else {})


def _reject_missing(
    missing: Mapping[str, str],
    num_labels: int,
    table: Path,
    films: Mapping[str, Path],
    rejected: list[RejectedSample] | None,
) -> None:
    """Reject the labels without a film, given as the id of each key, or raise the error for the first of them."""
    if rejected is not None:
        rejected += [RejectedSample(key, "no image", "no image of this name in the folders") for key in missing]
        return
    first = next(iter(missing.values()))
    got = f"{len(films):,} images, {num_labels - len(missing):,} of them with a label"
    do = "list all folders after --images, or leave such labels out with --on-bad skip --max-bad N"
    if (similar := _find_padded(first, films)) is not None:
        got += f"; {similar.name!r} has other leading zeros than {first!r}"
        do = f"join '{first}' and '{similar.name}' with --id-width {len(similar.stem)}; or {do}"
    raise ImageError(
        f"{table}: no image found for {len(missing):,} of {num_labels:,} labels; the first is '{first}'",
        expected=f"an image named {first}.png (or .jpg, .tif, .dcm) in the folders of --images",
        got=got,
        do=do,
    )


def _find_padded(identity: str, films: Mapping[str, Path]) -> Path | None:
    """Return a film whose name is the same number as the id, with other leading zeros."""
    if not identity.isdecimal():
        return None
    number = identity.lstrip("0")
    return next((film for name, film in films.items() if name.isdecimal() and name.lstrip("0") == number), None)


def _file_bytes(film: Path) -> int:
    try:
        return film.stat().st_size
    except OSError as error:
        raise ImageError(f"{film}: cannot be read: {error.strerror}", do="check the file and its folder") from error


def _hand_digest(hand: Hand) -> str:
    facts = json.dumps([hand.seed, hand.sex_cue_strength, hand_ground_truth(hand)], sort_keys=True)
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()
