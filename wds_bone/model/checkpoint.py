"""Training state <-> one verified file.

In comes a dictionary of tensors and plain types, out goes a file that `torch.load(weights_only=True)` reads, followed
by one line with the sha256 of all before it. The invariant: a file is loaded only if its bytes are the ones that were
saved; zip archives have checksums of their own, but `torch.load` does not look at them.
"""

import hashlib
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from wds_bone.errors import CheckpointError
from wds_bone.storage.durable import publish

FORMAT = "wds_bone checkpoint 1"
_PREFIX = b"\nwds_bone sha256 "
_TRAILER_BYTES = len(_PREFIX) + 64 + 1
_CHUNK_BYTES = 1 << 20
_USE_ANOTHER = "copy it again from where it was written, or give another checkpoint of the run (last.pt, best.pt)"


def save_checkpoint(path: Path, contents: dict[str, Any]) -> None:
    """Write `contents` to `path`, atomically and durably.

    Args:
        path: whatever was there before stays until the new file is complete.
        contents: tensors and plain types only, so that loading needs no code of ours.

    Raises:
        WdsBoneError: the disk refuses; the old file is kept.
    """
    publish(path, lambda stream: _write_sealed(stream, {"format": FORMAT, **contents}))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Verify and read what `save_checkpoint` wrote, onto the CPU.

    Raises:
        CheckpointError: missing, cut short, changed, of another program or another version.
    """
    with _reading(path) as stream:
        return read_checkpoint(stream, where=str(path))


def read_checkpoint(stream: BinaryIO, *, where: str) -> dict[str, Any]:
    """Verify and read a checkpoint from a seekable stream, onto the CPU; `where` is what errors call it.

    Raises:
        CheckpointError: cut short, changed, of another program or another version.
    """
    _verify_seal(stream, where)
    try:
        contents: dict[str, Any] = torch.load(stream, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{where}: not a checkpoint of weights", got=error, do="give another checkpoint"
        ) from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        found = contents.get("format") if isinstance(contents, dict) else type(contents).__name__
        raise CheckpointError(
            f"{where}: of another format", expected=FORMAT, got=found, do="use the version of wds_bone that wrote it"
        )
    return contents


def read_whole(path: Path) -> bytes:
    """Return the bytes of a checkpoint, unverified.

    Raises:
        CheckpointError: it cannot be read.
    """
    with _reading(path) as stream:
        return stream.read()


def is_sealed(path: Path) -> bool:
    """Return whether a file ends as checkpoints do.

    Raises:
        CheckpointError: it cannot be read.
    """
    with _reading(path) as stream:
        return _parse_seal(_read_trailer(stream)) is not None


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}", do="give another file") from error


class _Hashing:
    """A file that hashes what passes through it, and remembers what the disk refused."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.digest = stream, hashlib.sha256()
        self.refusal: OSError | None = None

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        try:
            return self.stream.write(content)
        except OSError as error:
            self.refusal = error
            raise

    def flush(self) -> None:
        self.stream.flush()


def _write_sealed(stream: BinaryIO, contents: dict[str, Any]) -> None:
    hashing = _Hashing(stream)
    try:
        torch.save(contents, hashing)  # type: ignore[arg-type]
    except RuntimeError as error:  # of torch's archive, which it cannot end after a write that failed
        raise hashing.refusal or error from None
    stream.write(_PREFIX + hashing.digest.hexdigest().encode() + b"\n")


def _verify_seal(stream: BinaryIO, where: str) -> None:
    """Check the last line against all before it, and go back to the start."""
    trailer = _read_trailer(stream)
    num_bytes, claimed = stream.tell(), _parse_seal(trailer)
    if claimed is None:
        raise CheckpointError(
            f"{where}: not a checkpoint, or one that was cut short",
            expected="a last line with a sha256",
            got=f"{num_bytes:,} bytes that end in {trailer[-8:]!r}",
            do=_USE_ANOTHER,
        )
    found = _hash(stream, num_bytes - _TRAILER_BYTES)
    if claimed != found:
        raise CheckpointError(
            f"{where}: changed since it was saved",
            expected=f"sha256 {claimed}",
            got=f"sha256 {found}",
            do=_USE_ANOTHER,
        )
    stream.seek(0)


def _read_trailer(stream: BinaryIO) -> bytes:
    """Return the last bytes of a file, at most as many as a trailer has, and stay at its end."""
    stream.seek(max(0, stream.seek(0, 2) - _TRAILER_BYTES))
    return stream.read()


def _parse_seal(trailer: bytes) -> str | None:
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
