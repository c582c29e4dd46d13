"""Find the source of each sample: a labeled film, or a synthetic hand.

In: a label table and folders of films, on a disk or in object storage, or a number of hands to draw.
Out: a list of `Source`.
Invariant: every label becomes a source, a rejected sample, or an error.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from wds_bone.errors import ImageError
from wds_bone.images.files import LocationT
from wds_bone.images.read import ImageFiles, find_images
from wds_bone.labels.patients import PatientColumn
from wds_bone.labels.read import Label, LabelColumns, RejectedSample, read_label_table
from wds_bone.phantom import Hand, hand_ground_truth, synthetic_hands
from wds_bone.storage.location import Location


@dataclass(frozen=True)
class Source:
    """One sample before it is written.

    Attributes:
        label: its key, gender and age.
        image: the path or URL of the film, or the hand to draw.
        fingerprint: the size of the film in bytes, or a digest of the hand; the image is not read for it.
        id: the id in the label table if its keys are made from ids, else None.
        group: a number that all films of a patient share; None if patients are not known.
    """

    label: Label
    image: Location | Hand
    fingerprint: int | str
    id: str | None = None
    group: int | None = None


@dataclass(frozen=True)
class FilmSources:
    """The sources of all labels that have a film.

    Attributes:
        sources: one per label that has a readable film.
        unlabeled: the numbers of files without a label, in words; "" if there are none.
        table_sha256: the hash of the label table; None if there is none.
        patients: what the table says about patients.
    """

    sources: list[Source]
    unlabeled: str = ""
    table_sha256: str | None = None
    patients: PatientColumn = field(default_factory=PatientColumn)


def film_sources(
    table: Location, folders: Sequence[Location], columns: LabelColumns, *, rejected: list[RejectedSample] | None
) -> FilmSources:
    """Return a source per label that has a film.

    Args:
        table: the label table.
        folders: the folders of the films, whose file names are the ids.
        columns: the columns of the table, as for `read_label_table`.
        rejected: collects bad rows, and labels without a readable film or with several; None makes the first of them
            an error.

    Raises:
        LabelError: if `read_label_table` refuses the table.
        ImageError: if `find_images` refuses the folders; or, without `rejected`, if labels have no film or several.
    """
    read = read_label_table(table, columns, rejected=rejected)
    ids = {label.key: read.ids.get(label.key, label.key) for label in read.labels}
    files = find_images(folders).look_at(_parts(identity)[-1] for identity in ids.values())
    films = _find_films(ids, files, rejected=rejected)
    known = {path for bad in rejected or () for path in files_of(read.ids.get(bad.key, bad.key), files)}
    missing = {key: ids[key] for key, film in films.items() if film is None}
    if missing:
        _reject_missing(missing, len(ids), table, files, rejected)
    sources = []
    for label in read.labels:
        if (film := films.get(label.key)) is not None:
            known.add(film)
            identity = ids[label.key] if columns.safe_keys else None
            sources += _film_source(label, film, identity=identity, files=files, rejected=rejected)
    is_all_used = known.issuperset(files.images) and known.issuperset(files.others)
    return FilmSources(sources, "" if is_all_used else files.describe(known), read.sha256, read.patients)


def _find_films(
    ids: Mapping[str, str], files: ImageFiles[LocationT], *, rejected: list[RejectedSample] | None
) -> dict[str, LocationT | None]:
    """Return the film of each key, or None if it has none; reject the keys with several, or raise the first error."""
    films = dict[str, LocationT | None]()
    for key, identity in ids.items():
        try:
            films[key] = find_film(identity, files)
        except ImageError:
            if rejected is None:
                raise
            *folders, name = _parts(identity)
            names = " and ".join(path.name for path in files.find_all(name, folders))
            problem = f"several images of this name in the folders ({names})"
            rejected.append(RejectedSample(key, "several images", problem))
    return films


def find_film(identity: str, files: ImageFiles[LocationT]) -> LocationT | None:
    """Return the film of an id: its name is the last part of the id, its folders end in the others, if there are any.

    Raises:
        ImageError: if there are several films.
    """
    *folders, name = _parts(identity)
    return files.find(name, folders)


def synthetic_sources(num_samples: int, *, seed: int, num_raters: int = 1) -> list[Source]:
    """Return a source per synthetic hand, labeled with the mean reading of `num_raters` raters."""
    hands = synthetic_hands(num_samples, seed=seed, num_raters=num_raters)
    return [Source(Label(hand.key, hand.gender, hand.age_months), hand, _hand_digest(hand)) for hand in hands]


def _parts(identity: str) -> list[str]:
    """Return the parts of an id such as `1377` or `train/1377`."""
    return [part for part in re.split(r"[/\\]", identity) if part not in ("", ".")] or [identity]


def files_of(identity: str, files: ImageFiles[LocationT]) -> Sequence[LocationT]:
    """Return the files that may be the film of an id; none of them is opened."""
    return files.by_name.get(_parts(identity)[-1], ())


def _reject_missing(
    missing: Mapping[str, str],
    num_labels: int,
    table: Location,
    files: ImageFiles[LocationT],
    rejected: list[RejectedSample] | None,
) -> None:
    """Reject the labels without a film, given as the id of each key, or raise the error for the first of them."""
    if rejected is not None:
        rejected += [RejectedSample(key, "no image", "no image of this name in the folders") for key in missing]
        return
    do = (
        "list all folders after --images, convert films of other kinds to PNG, or leave such labels out with "
        "--on-bad skip --max-bad N"
    )
    raise missing_films_error([*missing.values()], num_labels, table, files, do=do)


def missing_films_error(
    ids: Sequence[str], num_labels: int, table: Location, files: ImageFiles[LocationT], *, do: str
) -> ImageError:
    """Return the error for labels without a film.

    Args:
        ids: the ids of these labels, at least one.
        num_labels: the number of all labels in the table.
        table: the label table.
        files: the files in the folders.
        do: the remedy, unless the ids differ from the names of films in leading zeros.
    """
    first, got = ids[0], f"{files.describe()}; {num_labels - len(ids):,} with a label"
    if (similar := _find_padded(first, files)) is not None:
        got += f"; {similar.name!r} has other leading zeros than {first!r}"
        do = f"join '{first}' and '{similar.name}' with --id-width {len(similar.stem)}; or {do}"
    return ImageError(
        f"{table}: no image found for {len(ids):,} of {num_labels:,} labels; the first is '{first}'",
        expected=f"an image named {first}.png (or .jpg, .tif, .dcm) in the folders of --images",
        got=got,
        do=do,
    )


def _find_padded(identity: str, files: ImageFiles[LocationT]) -> LocationT | None:
    """Return a film whose name is the same number as the id, with other leading zeros."""
    if not identity.isdecimal():
        return None
    number = identity.lstrip("0")
    for name in files.by_name:
        if name != identity and name.isdecimal() and name.lstrip("0") == number:
            with suppress(ImageError):  # several films of that name
                if (film := files.find(name)) is not None:
                    return film
    return None


def _film_source(
    label: Label,
    film: Location,
    *,
    identity: str | None,
    files: ImageFiles[Location],
    rejected: list[RejectedSample] | None,
) -> list[Source]:
    """Return the source of a film, or none if it cannot be read and may be rejected."""
    try:
        return [Source(label, film, _file_bytes(film, files), identity)]
    except ImageError as error:
        if rejected is None:
            raise
        rejected.append(RejectedSample(label.key, "bad image", error.problem.replace(str(film), film.name)))
        return []


def _file_bytes(film: Location, files: ImageFiles[Location]) -> int:
    try:
        return film.stat().st_size if isinstance(film, Path) else files.num_bytes[film]
    except OSError as error:
        raise ImageError(f"{film}: cannot be read: {error.strerror}", do="check the file and its folder") from error


def _hand_digest(hand: Hand) -> str:
    facts = json.dumps([hand.seed, hand.sex_cue_strength, hand_ground_truth(hand)], sort_keys=True)
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()
