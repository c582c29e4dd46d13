"""Find the source of each sample: a labeled film, or a synthetic hand.

In: a label table and folders of films, or a number of hands to draw.
Out: a list of `Source`, and the image of a single source when it is needed.
Invariant: every label becomes a source, a rejected sample, or an error.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ImageError
from wds_bone.images.read import find_images, letterbox, read_image
from wds_bone.labels.patients import PatientColumn
from wds_bone.labels.read import Label, LabelColumns, RejectedSample, read_labels
from wds_bone.phantom import Hand, draw_hand, hand_ground_truth, synthetic_hands
from wds_bone.shards.manifest import ImageFormat


@dataclass(frozen=True)
class Source:
    """One sample before it is written.

    Attributes:
        label: its key, gender and age.
        image: the path of the film, or the hand to draw.
        fingerprint: the size of the film in bytes, or a digest of the hand; the image is not read for it.
        group: a number that all films of a patient share; None if patients are not known.
    """

    label: Label
    image: Path | Hand
    fingerprint: int | str
    group: int | None = None


def film_sources(
    table: Path,
    folders: Sequence[Path],
    columns: LabelColumns,
    *,
    rejected: list[RejectedSample] | None,
    patients: PatientColumn | None = None,
) -> tuple[list[Source], int]:
    """Return a source per label that has a film, and the number of films in `folders` that have no label.

    Args:
        table: the label table.
        folders: the folders of the films, whose file names are the ids.
        columns: the columns of the table, as for `read_labels`.
        rejected: collects bad rows and labels without a film; None makes the first of them an error.
        patients: receives the patients, as for `read_labels`.

    Raises:
        LabelError: if `read_labels` refuses the table.
        ImageError: if `find_images` refuses the folders, or if labels have no film.
    """
    labels = read_labels(table, columns, rejected=rejected, patients=patients)
    films = find_images(folders)
    missing = [label.key for label in labels if label.key not in films]
    num_unlabeled = len(films) - (len(labels) - len(missing)) - sum(bad.key in films for bad in rejected or ())
    if missing:
        _reject_missing(missing, len(labels), table, films, rejected)
    sources = [Source(label, films[label.key], _file_bytes(films[label.key])) for label in labels if label.key in films]
    return sources, num_unlabeled


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
    missing: Sequence[str],
    num_labels: int,
    table: Path,
    films: Mapping[str, Path],
    rejected: list[RejectedSample] | None,
) -> None:
    if rejected is not None:
        rejected += [RejectedSample(key, "no image", "no image of this name in the folders") for key in missing]
        return
    raise ImageError(
        f"{table}: no image found for {len(missing):,} of {num_labels:,} labels; the first is '{missing[0]}'",
        expected=f"an image named {missing[0]}.png (or .jpg, .tif, .dcm) in the folders of --images",
        got=f"{len(films):,} images, {num_labels - len(missing):,} of them with a label",
        do="list all folders after --images, or leave such labels out with --on-bad skip --max-bad N",
    )


def _file_bytes(film: Path) -> int:
    try:
        return film.stat().st_size
    except OSError as error:
        raise ImageError(f"{film}: cannot be read: {error.strerror}", do="check the file and its folder") from error


def _hand_digest(hand: Hand) -> str:
    facts = json.dumps([hand.seed, hand.sex_cue_strength, hand_ground_truth(hand)], sort_keys=True)
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()
