"""Predict labeled films, without shards.

In: an ensemble, a label table, and folders of films.
Out: the predictions in the order of the table.
Invariant: every row of the table is predicted, or reported and counted; films that are not in it are not opened, and a
film has the same prediction as in a shard.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from wds_bone.errors import ImageError, LabelError, WdsBoneError
from wds_bone.failures import Failures
from wds_bone.inference.ensemble import Ensemble
from wds_bone.inference.films import Outcome, predict_films
from wds_bone.inference.labeled import Batching, GenderInput, Labeled, override_genders, refuse_large_batches
from wds_bone.inference.predictions import Predictions
from wds_bone.labels.columns import BY_NAME, LabelColumns
from wds_bone.labels.read import RejectedSample
from wds_bone.progress import progress
from wds_bone.sharding.sources import FilmSources, Source, film_sources

_DO = "correct the row, add or repair its film, or delete the row"


def predict_labeled_films(
    ensemble: Ensemble,
    table: Path,
    folders: Sequence[Path],
    *,
    columns: LabelColumns = BY_NAME,
    batching: Batching,
    device: torch.device,
    gender_input: GenderInput = "true",
) -> Labeled:
    """Predict the film of every row of a label table once; print an error for each row or film that cannot be used.

    Args:
        ensemble: the models, on `device`.
        table: the label table.
        folders: the folders of the films, whose file names are the ids in the table.
        columns: what the columns of the table mean, if their names do not say so.
        batching: how to predict.
        device: the device to predict on.
        gender_input: the genders to give to the models.

    Raises:
        WdsBoneError: if the table or a folder cannot be read, the memory is too small, or no film can be predicted.
    """
    refuse_large_batches(ensemble, batching, device)
    rejected: list[RejectedSample] = []
    found = film_sources(table, folders, columns, rejected=rejected)
    failures, causes = Failures(), Counter(bad.cause for bad in rejected)
    for bad in rejected:
        failures.add(LabelError(f"{table}: id '{bad.key}': {bad.problem}", do=_DO), kind=bad.cause)
    failures.print_counts()
    kept = list[tuple[Source, Outcome]]()
    for source, outcome in _predict_sources(ensemble, found, gender_input, batching=batching, device=device):
        if isinstance(outcome, WdsBoneError):
            causes["bad image"] += 1
            failures.add(outcome)
        else:
            kept.append((source, outcome))
    failures.print_counts()
    if not kept:
        raise _nothing_predicted(table, folders, causes)
    origin = {
        "num_samples": len(kept),
        "failures": dict(causes),
        "unlabeled": found.unlabeled,
        "labels_sha256": found.table_sha256,
        "image_formats": [asdict(image_format) for image_format in ensemble.image_formats],
    }
    return Labeled(_tabulate(kept), {"films": origin}, tuple(failures.errors))


def _predict_sources(
    ensemble: Ensemble, found: FilmSources, gender_input: GenderInput, *, batching: Batching, device: torch.device
) -> Iterator[tuple[Source, Outcome | WdsBoneError]]:
    """Yield each film with its outcome, in order, and show the progress."""
    true_genders = np.array([source.label.gender == "M" for source in found.sources], np.float32)
    given = override_genders(true_genders, gender_input, digest=str(found.table_sha256))
    outcomes = predict_films(
        ensemble,
        [source.image for source in found.sources if isinstance(source.image, Path)],
        ["M" if is_male else "F" for is_male in given.tolist()],
        device=device,
        threads=batching.num_threads(device),
        batch_size=batching.batch_size,
    )
    with progress(len(found.sources), "film", label="predict") as show:
        for number, pair in enumerate(zip(found.sources, outcomes, strict=True), 1):
            yield pair
            show(number)


def _tabulate(kept: Sequence[tuple[Source, Outcome]]) -> Predictions:
    """Return the predictions next to the labels."""
    labels, outcomes = [source.label for source, _ in kept], [outcome for _, outcome in kept]
    intervals = [outcome.interval for outcome in outcomes if outcome.interval is not None]
    return Predictions(
        [label.key for label in labels],
        np.array([label.gender == "M" for label in labels], np.float32),
        np.array([label.age_months for label in labels], np.float32),
        np.array([outcome.months for outcome in outcomes], np.float32),
        np.array(intervals, np.float32) if intervals else None,
    )


def _nothing_predicted(table: Path, folders: Sequence[Path], causes: Counter[str]) -> ImageError:
    return ImageError(
        f"{table}: no row has a film that can be predicted",
        expected=f"films whose names are the ids of the table, in {', '.join(map(str, folders))}",
        got=", ".join(f"{count:,} {cause}" for cause, count in causes.items()),
        do="read the errors above, and check --labels and --images",
    )
