"""Write tensors and plain types as a file whose last line is the sha256 of everything before it, and verify such files.

In: a seekable binary file.
Out: the same file, checked.
Invariant: a file that has changed since it was written is refused. (Zip archives have their own checksums, but
`torch.load` does not check them.)
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch

from wds_bone.errors import CheckpointError

_PREFIX = b"\nwds_bone sha256 "
_TRAILER_BYTES = len(_PREFIX) + 64 + 1
_CHUNK_BYTES = 1 << 20


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


def write_with_checksum(stream: BinaryIO, contents: dict[str, Any]) -> None:
    """Write `contents` with `torch.save`, and after it the line with the sha256.

    Raises:
        OSError: if a write fails.
    """
    hashing = _HashingWriter(stream)
    try:
        torch.save(contents, hashing)  # type: ignore[arg-type]
    except RuntimeError as error:  # torch cannot finish its archive after a failed write
        raise hashing.failure or error from None
    stream.write(_PREFIX + hashing.digest.hexdigest().encode() + b"\n")


def weights_sha256(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 of the names and the values of weights, in any order and on any device.

    It is the same for the copies of a checkpoint that differ in anything else, such as their calibration.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def refuse_changed(stream: BinaryIO, *, where: str, do: str) -> None:
    """Check the last line of a file against everything before it, and rewind the file.

    Raises:
        CheckpointError: if there is no such line, or the file has changed; its remedy is `do`.
    """
    claimed = claimed_sha256(stream)
    num_bytes = stream.tell()
    if claimed is None:
        ending = _read_trailer(stream)[-8:]
        raise CheckpointError(
            f"{where}: is not a checkpoint, or is truncated",
            expected="a last line with a sha256",
            got=f"{num_bytes:,} bytes that end with {ending!r}",
            do=do,
        )
    found = _hash(stream, num_bytes - _TRAILER_BYTES)
    if claimed != found:
        raise CheckpointError(
            f"{where}: has changed since it was saved", expected=f"sha256 {claimed}", got=f"sha256 {found}", do=do
        )
    stream.seek(0)


def claimed_sha256(stream: BinaryIO) -> str | None:
    """Return the sha256 in the last line of a file, or None if it has no such line; leave the file at its end."""
    match = re.fullmatch(re.escape(_PREFIX) + rb"([0-9a-f]{64})\n", _read_trailer(stream))
    return match[1].decode() if match else None


def _read_trailer(stream: BinaryIO) -> bytes:
    """Return the last bytes of a file, at most as many as a trailer has, and leave the stream at its end."""
    stream.seek(max(0, stream.seek(0, 2) - _TRAILER_BYTES))
    return stream.read()


def _hash(stream: BinaryIO, num_bytes: int) -> str:
    """Return the sha256 of the first `num_bytes`."""
    stream.seek(0)
    digest = hashlib.sha256()
    while num_bytes > 0 and (chunk := stream.read(min(_CHUNK_BYTES, num_bytes))):
        digest.update(chunk)
        num_bytes -= len(chunk)
    return digest.hexdigest()
