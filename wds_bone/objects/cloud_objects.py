"""Read and write objects of S3, Google Cloud Storage and Azure with obstore.

In: URLs of the schemes `s3`, `gs` and `az`, byte ranges.
Out: bytes, sizes, versions, names.
Invariant: every answer after the first one is asked for with its ETag; no text of the library is shown,
because it may contain a signature.

obstore signs requests with the credentials of each cloud's environment variables, files and instance roles. Its own
retries are off, except for uploads, whose parts only it can repeat: `retries` counts and bounds them, and continues a
body that was cut at its last good byte.
"""

import errno
import io
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, BinaryIO, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from wds_bone.errors import ConfigError
from wds_bone.objects.cloud_stores import CREDENTIALS, open_store
from wds_bone.objects.protocol import ChangedError, RemoteError, Traffic, Version
from wds_bone.objects.retries import Download, Retries, TransientError
from wds_bone.objects.sequential import SequentialFile
from wds_bone.objects.url import Url

CHUNK_BYTES = 2**16
"""How much arrives before it is handed out; what was not is lost with a connection."""
WHOLE_BYTES = 2**18
"""Ranges up to this size are read in one call, which is faster, and repeated as a whole."""
LIST_SIZE = 1000
PART_BYTES, PARTS_AT_ONCE, MAX_PARTS = 5 * 2**20, 4, 5000
"""How large files are written: in parts of at least this size, the smallest that S3 takes, and so many at most."""
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_MAY_PASS = ("408", "429", "500", "502", "503", "504")
_BAD_CREDENTIALS = (
    "ExpiredToken",
    "InvalidToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
)
_NO_CREDENTIALS = ("169.254.", "metadata", "Credential", "credential", "token", "oauth")
Buffer = bytes | memoryview
Value = TypeVar("Value")


class CloudObjects:
    """The objects of all buckets or containers of one cloud."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._closed = threading.Event()
        self._stores: dict[tuple[str, str, bool], Any] = {}
        self._lock = threading.Lock()

    def version(self, url: Url) -> Version:
        """Return the size and version of an object."""
        return _version_of(self._repeat(url, lambda store: obstore.head(store, url.path)))

    def read(self, url: Url, offset: int, size: int, *, version: Version | None = None) -> bytes:
        """Return exactly `size` bytes of an object."""
        with closing(self._download(url, start=offset, size=size, version=version)) as download:
            return download.read_rest()

    def read_all(self, url: Url, *, max_bytes: int) -> bytes:
        """Return a whole object, of at most `max_bytes`."""
        with closing(self._download(url, size=None)) as download:
            return download.read_all(max_bytes)

    def open(self, url: Url) -> BinaryIO:
        """Return a file that reads an object from its start."""
        return io.BufferedReader(SequentialFile(self._download(url, size=None)), CHUNK_BYTES)

    def names(self, prefix: Url) -> Sequence[str]:
        """Return the names of the objects directly below a prefix, sorted."""
        found = self._repeat(prefix, lambda store: obstore.list_with_delimiter(store, prefix.path or None))
        return sorted(entry["path"].rpartition("/")[2] for entry in found["objects"])

    def sizes(self, prefix: Url) -> Mapping[str, int]:
        """Return the sizes of the objects below a prefix, at any depth, by the rest of their paths, sorted."""

        def sizes(store: Any) -> dict[str, int]:
            found = obstore.list(store, prefix.path or None, chunk_size=LIST_SIZE)
            return {entry["path"]: entry["size"] for chunk in found for entry in chunk}

        start = f"{prefix.path}/".lstrip("/")
        return {path.removeprefix(start): size for path, size in sorted(self._repeat(prefix, sizes).items())}

    def write(self, url: Url, contents: bytes | BinaryIO, *, only_if_absent: bool = False) -> None:
        """Write an object at once; a large file is sent in parts, which become an object when all have arrived.

        Each part is repeated on its own, so that a slow link or a cut costs one part, and the time limit is that of a
        part. Memory holds `PARTS_AT_ONCE` of them.

        Raises:
            FileExistsError: if it must be absent and is not; also if an answer to the first attempt was lost.
        """
        num_bytes = len(contents) if isinstance(contents, bytes) else contents.seek(0, io.SEEK_END)
        options: dict[str, Any] = {
            "mode": "create" if only_if_absent else "overwrite",
            "use_multipart": num_bytes > PART_BYTES and not only_if_absent,
            "chunk_size": max(PART_BYTES, -(-num_bytes // MAX_PARTS)),
            "max_concurrency": PARTS_AT_ONCE,
        }

        def put(store: Any) -> Any:
            if not isinstance(contents, bytes):
                contents.seek(0)
            return obstore.put(store, url.path, contents, **options)

        self._repeat(url, put, is_upload=True)

    def copy(self, source: Url, target: Url) -> None:
        """Copy an object within its bucket, at once, without fetching it."""
        self._repeat(source, lambda store: obstore.copy(store, source.path, target.path), is_upload=True)
        expected, found = (self.version(url).num_bytes for url in (source, target))
        if found != expected:  # Azure may continue a copy after it has answered
            raise RemoteError(f"{found:,} of {expected:,} bytes were copied")

    def delete(self, url: Url) -> None:
        """Delete an object; one that is missing is no error."""
        try:
            self._repeat(url, lambda store: obstore.delete(store, url.path))
        except FileNotFoundError:
            return

    def close(self) -> None:
        """Give up all connections; a request in progress ends by its own time limit."""
        self._closed.set()
        self._stores.clear()

    def _repeat(self, url: Url, call: Callable[[Any], Value], *, is_upload: bool = False) -> Value:
        """Return what a call of the library returns, repeating it if it fails in a way that may pass."""
        retries = Retries(self.traffic, self._closed)
        while True:
            try:
                return self._call(url, call, is_upload=is_upload)
            except TransientError as error:
                retries.wait(error)

    def _call(self, url: Url, call: Callable[[Any], Value], *, is_upload: bool = False) -> Value:
        if self._closed.is_set():
            raise RemoteError("the connection was closed")
        _check_process(url)
        store = self._store(url, is_upload=is_upload)
        try:
            return call(store)
        except (BaseError, OSError, ValueError) as error:
            raise _error_of(error, url.scheme) from None  # its text may contain a secret

    def _store(self, url: Url, *, is_upload: bool) -> Any:
        with self._lock:
            key = url.host, url.query, is_upload
            return self._stores.get(key) or self._stores.setdefault(key, open_store(url, is_upload=is_upload))

    def _download(self, url: Url, *, start: int = 0, size: int | None, version: Version | None = None) -> Download:
        request = partial(self._request, url, None if size is None else start + size)
        return Download(request, Retries(self.traffic, self._closed), start=start, size=size, version=version)

    def _request(self, url: Url, end: int | None, start: int, version: Version | None) -> "_CloudBody":
        """Ask for the bytes from `start` to `end`."""
        options: Any = {"if_match": version.tag} if version and version.tag else {}
        if start or end is not None:
            options["range"] = {"offset": start} if end is None else (start, end)
        answer = self._call(url, lambda store: obstore.get(store, url.path, options=options))
        found = _version_of(answer.meta)
        if version and found.num_bytes != version.num_bytes:
            raise ChangedError(f"it was replaced: it has {found.num_bytes:,} bytes instead of {version.num_bytes:,}")
        is_small = end is not None and end - start <= WHOLE_BYTES
        chunks = _whole(answer) if is_small else answer.stream(min_chunk_size=CHUNK_BYTES)
        return _CloudBody(lambda: self._call(url, lambda _: next(chunks, b"")), found, self.traffic)


_process: list[int] = []  # the one in which the library has started its threads


def _check_process(url: Url) -> None:
    """Refuse a fork of a process that has used the library: it would wait for threads that are not there, forever.

    Raises:
        ConfigError: if this process is one.
    """
    _process[:] = _process or [os.getpid()]
    if _process != [os.getpid()]:
        raise ConfigError(
            f"{url.scheme}://{url.host}: cannot be used in this process, which was forked from one that has used it",
            expected="a process that was started with the method `spawn` or `forkserver`",
            got=f"a fork of process {_process[0]}",
            do='use multiprocessing.get_context("spawn"), or multiprocessing_context="spawn" of a DataLoader',
        )


class _CloudBody:
    """The body of an answer, in chunks."""

    def __init__(self, next_chunk: Callable[[], Buffer], version: Version, traffic: Traffic) -> None:
        self.version = version
        self._next_chunk, self._traffic = next_chunk, traffic
        self._rest = memoryview(b"")

    def read(self, max_bytes: int) -> bytes:
        if not self._rest:
            self._rest = memoryview(self._next_chunk())
            self._traffic.add(num_bytes=len(self._rest))
        found = bytes(self._rest[:max_bytes])
        self._rest = self._rest[max_bytes:]
        return found

    def close(self) -> None:
        """Do nothing: the library reuses or closes the connection when the answer is gone."""


def _whole(answer: Any) -> Iterator[Buffer]:
    yield answer.bytes()


def _version_of(meta: Any) -> Version:
    tag = meta["e_tag"]
    return Version(meta["size"], tag if tag and not tag.startswith("W/") else None)


def _error_of(error: Exception, scheme: str) -> TransientError | OSError:
    """Return what an error of the library means, without its text, of which only the status and a code are taken."""
    text = str(error)
    status, code = (found[1] if (found := pattern.search(text)) else "" for pattern in (_STATUS, _CODE))
    answer = f"HTTP {status}, {code}".rstrip(", ") if status else ""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, _no_object(code, answer))
    if isinstance(error, AlreadyExistsError):
        return FileExistsError(errno.EEXIST, "it exists already")
    if isinstance(error, PreconditionError) or status == "416":
        return ChangedError("it was replaced while it was read")
    is_refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in ("401", "403")
    if is_refused or code in _BAD_CREDENTIALS:
        return PermissionError(errno.EACCES, f"the store refuses access ({answer}); {CREDENTIALS[scheme]}")
    if (status and status not in _MAY_PASS) or "without LOCATION" in text:
        return RemoteError(f"the store answers {answer or 'with a redirect'}; check the region and the endpoint")
    if "non-partial" in text:
        return RemoteError("the store ignores the range that it was asked for")
    if not status and any(word in text for word in _NO_CREDENTIALS):
        return PermissionError(errno.EACCES, f"no credentials were found; {CREDENTIALS[scheme]}")
    return TransientError(f"the store answers {answer}" if answer else "the connection failed, was cut or was too slow")


def _no_object(code: str, answer: str) -> str:
    is_container = code in ("NoSuchBucket", "ContainerNotFound")
    noun = "bucket or container" if is_container else "object"
    return f"there is no such {noun}" + f" ({answer})" * bool(answer)
