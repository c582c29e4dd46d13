"""Save and load a checkpoint as one verified file.

In: a dictionary of tensors and plain types.
Out: a file that `torch.load(weights_only=True)` reads; its last line is the sha256 of everything before it.
Invariant: a file is loaded only if it has not changed since it was saved. (Zip archives have their own checksums, but
`torch.load` does not check them.)
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from wds_bone.errors import CheckpointError, WdsBoneError
from wds_bone.storage.durable import write_atomically

_PARTS: dict[str, tuple[str, ...]] = {
    "config": ("model",),
    "versions": ("wds_bone",),
    "order_digests": ("train", "val"),
    "train_median_months": ("all",),
    "progress": ("step",),
    "stream": (),
    "preprocessing": ("normalization", "image_format", "height", "width", "phase_pixels"),
    "target": ("mean_months", "sd_months"),
    "model": (),
    "ema": (),
    "optimizer": (),
}
"""The mappings in a checkpoint, and what each must contain, whichever command reads it."""
FORMAT, OLD_FORMATS = "wds_bone checkpoint 3", ("wds_bone checkpoint 1", "wds_bone checkpoint 2")
_PREFIX = b"\nwds_bone sha256 "
_TRAILER_BYTES = len(_PREFIX) + 64 + 1
_CHUNK_BYTES = 1 << 20
_USE_ANOTHER = "copy the file again, or use another checkpoint of the run (last.pt, best.pt)"


def save_checkpoint(path: Path, contents: dict[str, Any]) -> None:
    """Write `contents` to `path`, atomically and durably.

    Args:
        path: an existing file is kept until the new one is complete.
        contents: tensors and plain types only, so that loading executes no code.

    Raises:
        WdsBoneError: if it cannot be written; an existing file is kept.
    """
    write_atomically(path, lambda stream: _write_with_checksum(stream, {"format": FORMAT, **contents}))


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
    _verify_checksum(stream, where)
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
        return _parse_trailer(_read_trailer(stream)) is not None


def _refuse_incomplete(contents: dict[str, Any], where: str) -> None:
    missing = [name for name in _PARTS if not isinstance(contents.get(name), dict)]
    present = ((name, part) for name, parts in _PARTS.items() if name not in missing for part in parts)
    missing += [f"{name}.{part}" for name, part in present if part not in contents[name]]
    if missing:
        raise CheckpointError(
            f"{where}: the checkpoint is incomplete",
            expected=", ".join(_PARTS),
            got=f"no {', '.join(missing)}",
            do=_USE_ANOTHER,
        )


def _upgrade(contents: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a checkpoint of an older format under their current names.

    Format 1 had other names. Formats 1 and 2 did not resample images in evaluation, which `phase_pixels` 0 continues.
    """
    renamed = {"average": "ema", "optimiser": "optimizer"}
    upgraded = {renamed.get(name, name): value for name, value in contents.items()}
    if isinstance(upgraded.get("preprocessing"), dict):
        names = {"normalisation": "normalization"}
        preprocessing = {names.get(name, name): value for name, value in upgraded["preprocessing"].items()}
        upgraded["preprocessing"] = {**preprocessing, "phase_pixels": 0.0}
    return upgraded


@contextmanager
def _open_checkpoint(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror}", do="check the path and its permissions"
        ) from error


class _HashingWriter:
    """A file wrapper that hashes what is written, and keeps the error of a failed write."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.digest = stream, hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        try:
            return self.stream.write(content)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.stream.flush()


def _write_with_checksum(stream: BinaryIO, contents: dict[str, Any]) -> None:
    hashing = _HashingWriter(stream)
    try:
        torch.save(contents, hashing)  # type: ignore[arg-type]
    except RuntimeError as error:  # torch cannot finish its archive after a failed write
        raise hashing.failure or error from None
    stream.write(_PREFIX + hashing.digest.hexdigest().encode() + b"\n")


def _verify_checksum(stream: BinaryIO, where: str) -> None:
    """Check the last line against everything before it, and rewind the stream."""
    trailer = _read_trailer(stream)
    num_bytes, claimed = stream.tell(), _parse_trailer(trailer)
    if claimed is None:
        raise CheckpointError(
            f"{where}: is not a checkpoint, or is truncated",
            expected="a last line with a sha256",
            got=f"{num_bytes:,} bytes that end with {trailer[-8:]!r}",
            do=_USE_ANOTHER,
        )
    found = _hash(stream, num_bytes - _TRAILER_BYTES)
    if claimed != found:
        raise CheckpointError(
            f"{where}: has changed since it was saved",
            expected=f"sha256 {claimed}",
            got=f"sha256 {found}",
            do=_USE_ANOTHER,
        )
    stream.seek(0)


def _read_trailer(stream: BinaryIO) -> bytes:
    """Return the last bytes of a file, at most as many as a trailer has, and leave the stream at its end."""
    stream.seek(max(0, stream.seek(0, 2) - _TRAILER_BYTES))
    return stream.read()


def _parse_trailer(trailer: bytes) -> str | None:
    """Return the sha256 in a trailer, or None if it is not one."""
    match = re.fullmatch(re.escape(_PREFIX) + rb"([0-9a-f]{64})\n", trailer)
    return match[1].decode() if match else None


def _hash(stream: BinaryIO, num_bytes: int) -> str:
    """Return the sha256 of the first `num_bytes`."""
    stream.seek(0)
    digest = hashlib.sha256()
    while num_bytes > 0 and (chunk := stream.read(min(_CHUNK_BYTES, num_bytes))):
        digest.update(chunk)
        num_bytes -= len(chunk)
    return digest.hexdigest()
