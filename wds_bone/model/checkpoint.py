"""Save and load a checkpoint as one verified file.

A checkpoint for inference has the averaged weights and what prediction needs. One for resuming also has the state of
training: it can be used for everything, and is four times as large.

In: a dictionary of tensors and plain types.
Out: a file that `torch.load(weights_only=True)` reads; its last line is the sha256 of everything before it.
Invariant: a file is loaded only if it has not changed since it was saved. (Zip archives have their own checksums, but
`torch.load` does not check them.)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from wds_bone.errors import CheckpointError, WdsBoneError
from wds_bone.model.checksum import claimed_sha256, refuse_changed, write_with_checksum
from wds_bone.storage.durable import write_atomically

_PARTS: dict[str, tuple[str, ...]] = {
    "config": ("model",),
    "versions": ("wds_bone",),
    "order_digests": ("train", "val"),
    "train_median_months": ("all",),
    "progress": ("step",),
    "preprocessing": ("normalization", "image_format", "height", "width", "phase_pixels"),
    "target": ("mean_months", "sd_months"),
    "ema": (),
}
"""The mappings in every checkpoint, and what each must contain, whichever command reads it."""
_OPTIONAL_PARTS: dict[str, tuple[str, ...]] = {"calibration": (), "trained_on": ("salt", "hashes", "inherited")}
"""Those that are None if the checkpoint is not calibrated, and if its format is older than these."""
_TRAINING_PARTS: dict[str, tuple[str, ...]] = {
    "stream": (),
    "model": (),
    "optimizer": (),
    "clock": ("elapsed_seconds",),
}
"""Those of a checkpoint for resuming, all or none of which are there."""
FORMAT = "wds_bone checkpoint 4"
OLD_FORMATS = tuple(f"wds_bone checkpoint {number}" for number in (1, 2, 3))
BEST_NAME, LAST_NAME = "best.pt", "last.pt"
"""The checkpoints in the folder of a run: the one for inference, and the one for resuming."""
_USE_ANOTHER = (
    f"copy the file again, or use another checkpoint of the run ({LAST_NAME}, {BEST_NAME}); to train without "
    f"{LAST_NAME}, start a new run with --init-weights {BEST_NAME} and another --out"
)


def save_checkpoint(path: Path, contents: dict[str, Any]) -> None:
    """Write `contents` to `path`, atomically and durably.

    Args:
        path: an existing file is kept until the new one is complete.
        contents: tensors and plain types only, so that loading executes no code.

    Raises:
        WdsBoneError: if it cannot be written; an existing file is kept.
    """
    write_atomically(path, lambda stream: write_with_checksum(stream, {"format": FORMAT, **contents}))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Verify and read a checkpoint, onto the CPU.

    Raises:
        CheckpointError: if it is missing, truncated, changed, incomplete, or from another program or a newer version.
    """
    with _open_checkpoint(path) as stream:
        return read_checkpoint(stream, where=str(path))


def read_checkpoint(stream: BinaryIO, *, where: str) -> dict[str, Any]:
    """Verify and read a checkpoint from a seekable stream, onto the CPU; errors name `where`.

    Raises:
        CheckpointError: if it is truncated, changed, incomplete, or from another program or a newer version.
    """
    refuse_changed(stream, where=where, do=_USE_ANOTHER)
    try:
        contents: dict[str, Any] = torch.load(stream, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch raises arbitrary exceptions for files of other programs
        got = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"{where}: is not a checkpoint of tensors and plain types", got=got, do="use another checkpoint"
        ) from error
    found = contents.get("format") if isinstance(contents, dict) else type(contents).__name__
    if found not in (FORMAT, *OLD_FORMATS):
        raise CheckpointError(
            f"{where}: the checkpoint has a different format",
            expected=FORMAT,
            got=found,
            do="use the version of wds_bone that wrote it",
        )
    contents = _upgrade(contents) if found in OLD_FORMATS else contents
    _refuse_incomplete(contents, where)
    return contents


def for_inference(contents: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a checkpoint without the state of training."""
    return {name: value for name, value in contents.items() if name not in _TRAINING_PARTS}


def can_be_resumed(contents: dict[str, Any]) -> bool:
    """Return whether a checkpoint has the state of training."""
    return _TRAINING_PARTS.keys() <= contents.keys()


@contextmanager
def restoring(name: str) -> Iterator[None]:
    """Turn the failure of a block that restores parts of a checkpoint of the model `name` into an error.

    Raises:
        CheckpointError: if a part lacks a value, or has one of another kind or shape.
    """
    try:
        yield
    except (WdsBoneError, torch.OutOfMemoryError):
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint does not contain a whole {name}",
            expected="the weights and settings that `wds-bone train` saved",
            got=" ".join(f"{type(error).__name__}: {error}".split())[:300],
            do=_USE_ANOTHER,
        ) from error


def read_whole(path: Path) -> bytes:
    """Return the bytes of a checkpoint without verifying them.

    Raises:
        CheckpointError: if it cannot be read.
    """
    with _open_checkpoint(path) as stream:
        return stream.read()


def has_checksum_line(path: Path) -> bool:
    """Return whether the last line of a file is the checksum line of a checkpoint.

    Raises:
        CheckpointError: if it cannot be read.
    """
    with _open_checkpoint(path) as stream:
        return claimed_sha256(stream) is not None


def _refuse_incomplete(contents: dict[str, Any], where: str) -> None:
    parts = _PARTS if contents.keys().isdisjoint(_TRAINING_PARTS) else _PARTS | _TRAINING_PARTS
    parts = parts | {name: inner for name, inner in _OPTIONAL_PARTS.items() if contents.get(name, "") is not None}
    missing = [name for name in parts if not isinstance(contents.get(name), dict)]
    present = ((name, part) for name, inner in parts.items() if name not in missing for part in inner)
    missing += [f"{name}.{part}" for name, part in present if part not in contents[name]]
    if missing:
        raise CheckpointError(
            f"{where}: the checkpoint is incomplete",
            expected=", ".join(parts),
            got=f"no {', '.join(missing)}",
            do=_USE_ANOTHER,
        )


def _upgrade(contents: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a checkpoint of an older format as the current one has them.

    Format 1 had other names. Formats 1 and 2 did not resample images in evaluation, which `phase_pixels` 0 continues.
    Formats 1 to 3 were not calibrated, and do not say what they were trained on and for how long.
    """
    renamed = {"average": "ema", "optimiser": "optimizer"}
    upgraded = {renamed.get(name, name): value for name, value in contents.items()}
    if isinstance(upgraded.get("preprocessing"), dict):
        names = {"normalisation": "normalization"}
        preprocessing = {names.get(name, name): value for name, value in upgraded["preprocessing"].items()}
        phase = {} if contents["format"] == OLD_FORMATS[2] else {"phase_pixels": 0.0}
        upgraded["preprocessing"] = preprocessing | phase
    added = {"calibration": None, "trained_on": None, "clock": {"elapsed_seconds": 0.0}}
    return upgraded | added | {"format": FORMAT}


@contextmanager
def _open_checkpoint(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        do = "check the path and its permissions"
        if isinstance(error, FileNotFoundError) and path.name == BEST_NAME and path.with_name(LAST_NAME).exists():
            do = f"use {path.with_name(LAST_NAME)}; a run has no {BEST_NAME} before its first validation"
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}", do=do) from error
