"""Keep the films of a patient together, and describe the patients of a set without their ids.

In: labels or sources, and the patient of each key.
Out: films by patient, sources with group numbers, or lines for the output of the command.
Invariant: the id of a patient is only compared with other ids; it is never written, shown, hashed or sorted by.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, combinations
from types import MappingProxyType

from wds_bone.labels.patients import PatientColumn
from wds_bone.labels.read import Label
from wds_bone.sharding.sources import Source

NO_PATIENTS: Mapping[str, str] = MappingProxyType({})


def films_by_patient(labels: Iterable[Label], patients: Mapping[str, str]) -> list[list[Label]]:
    """Return the labels of each patient, sorted by gender, age and key; a key without a patient counts as one."""
    films: dict[str | Label, list[Label]] = {}
    for label in labels:
        films.setdefault(patients.get(label.key, label), []).append(label)
    return [sorted(part, key=lambda label: (label.gender, label.age_months, label.key)) for part in films.values()]


def number_groups(parts: Mapping[str, Sequence[Source]], patients: Mapping[str, str]) -> dict[str, list[Source]]:
    """Return the sources of each split with a group number per patient, counted in writing order.

    Writing order is the order of a keyed hash of the keys, so that a number says nothing about the patient.
    """
    numbers: dict[str, int] = {}
    for source in (source for part in parts.values() for source in part):
        numbers.setdefault(patients[source.label.key], len(numbers))
    return {
        split: [replace(source, group=numbers[patients[source.label.key]]) for source in part]
        for split, part in parts.items()
    }


def describe_patients(column: PatientColumn, parts: Mapping[str, Sequence[Source]], *, is_used: bool) -> list[str]:
    """Return what the user should know about the patients of a set; empty if the table has no patients.

    Args:
        column: the column that the user named, or one that looks like it, and its values.
        parts: the sources of each split.
        is_used: whether the films of a patient are kept together.
    """
    labels = {split: [source.label for source in part] for split, part in parts.items()}
    if not is_used:
        return _describe_unused(column, labels)
    films = films_by_patient(chain.from_iterable(labels.values()), column.patients)
    lines = [f"patients: {len(films):,}, with up to {max(map(len, films)):,} films; the films of each stay together"]
    if mixed := [part for part in films if part[0].gender != part[-1].gender]:
        first = f"the first of them has the films '{mixed[0][0].key}' (F) and '{mixed[0][-1].key}' (M)"
        lines.append(f"patients with films of both genders: {len(mixed):,}; {first}; check the label table")
    return lines


def _describe_unused(column: PatientColumn, parts: Mapping[str, Sequence[Label]]) -> list[str]:
    found = [column.patients[label.key] for part in parts.values() for label in part if label.key in column.patients]
    if column.name is None or not found:
        return []
    start = f"column {column.name!r} looks like a patient"
    num_repeated = sum(count > 1 for count in Counter(found).values())
    if not num_repeated:
        return [f"{start}: each has one film"]
    seen = [{column.patients.get(label.key) for label in part} - {None} for part in parts.values()]
    counts = [
        f"{_count(len(ours & theirs))} films in {first} and in {second}"
        for (first, ours), (second, theirs) in combinations(zip(parts, seen, strict=True), 2)
    ]
    text = ", ".join(counts) or f"{_count(num_repeated)} several films"
    return [f"{start}: {text}; use --patient-column {shlex.quote(column.name)}"]


def _count(num_patients: int) -> str:
    return f"{num_patients:,} {'patient has' if num_patients == 1 else 'patients have'}"
