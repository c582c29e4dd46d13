"""Keep a command running when its standard output or standard error is lost, and let both print any text.

In: the standard streams of the process, which may be closed, full, gone, or of an encoding such as ASCII.
Out: streams that can be written to.
Invariant: text is written at once, so that a lost stream is noticed where it is used, never when the interpreter exits.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, cast

from wds_bone.errors import WdsBoneError

BROKEN_PIPE_CODE = 128 + signal.SIGPIPE
_LAST_STANDARD_DESCRIPTOR = 2


class StandardStreams:
    """Replaces `sys.stdin`, `sys.stdout` and `sys.stderr` while it is open.

    A stream that can no longer be written to becomes `/dev/null`, and the other one says so, once. Only if
    `output_is_result`, the loss of standard output ends the command: silently with exit code 141 if the reader has
    closed the pipe, as in `| head`, and otherwise with an error. Characters that a stream cannot encode are escaped.

    Args:
        command: the name of the command, for messages.

    Attributes:
        output_is_result: whether standard output is the result of the command, rather than a log of it.
    """

    def __init__(self, command: str) -> None:
        self.output_is_result = True
        self._command = command
        self._previous: tuple[TextIO, TextIO, TextIO] = sys.stdin, sys.stdout, sys.stderr

    def __enter__(self) -> Self:
        self._previous = sys.stdin, sys.stdout, sys.stderr
        _occupy_descriptors()
        sys.stdin = _open_input(sys.stdin)
        sys.stdout = _as_text_stream(_Output(sys.stdout, on_loss=self._lose_output))
        sys.stderr = _as_text_stream(_Output(sys.stderr, on_loss=self._lose_errors))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdin, sys.stdout, sys.stderr = self._previous

    def _lose_output(self, error: OSError) -> None:
        """Handle the loss of standard output.

        Raises:
            SystemExit: if it is a pipe that has no reader, and the result was to be written to it.
            WdsBoneError: if the result cannot be written for another reason.
        """
        if not self.output_is_result:
            print(self._warning("standard output", error), file=sys.stderr)  # noqa: T201
            return
        if error.errno == errno.EPIPE:
            raise SystemExit(BROKEN_PIPE_CODE)
        raise WdsBoneError(
            f"standard output: cannot be written: {error.strerror}",
            do=f"run `{self._command}` again with its output sent to a file on a disk with free space",
        )

    def _lose_errors(self, error: OSError) -> None:
        if not self.output_is_result:
            print(self._warning("standard error", error))  # noqa: T201

    def _warning(self, name: str, error: OSError) -> str:
        return f"warning: {name}: cannot be written: {error.strerror}; `{self._command}` continues without it"


class _Output:
    """A text stream that writes at once; when that fails, it discards its text from then on and calls `on_loss`."""

    def __init__(self, stream: TextIO | None, *, on_loss: Callable[[OSError], None]) -> None:
        # The main function of a command runs inside that of `wds-bone`: the inner one knows what a loss means.
        self._stream: TextIO = stream._stream if isinstance(stream, _Output) else stream or _closed_stream()
        self._on_loss = on_loss
        if isinstance(self._stream, io.TextIOWrapper):
            self._stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            _discard(self._stream)
            self._on_loss(error)
        return len(text)

    def flush(self) -> None:
        """Do nothing, because `write` has done it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _as_text_stream(output: _Output) -> TextIO:
    return cast(TextIO, output)


def _occupy_descriptors() -> None:
    """Open `/dev/null` in place of standard streams that are closed, so that no file of ours gets their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= _LAST_STANDARD_DESCRIPTOR:
        pass
    os.close(descriptor)


def _open_input(stream: TextIO | None) -> TextIO:
    """Return standard input, empty if it is closed; names of files that are not valid UTF-8 can be read from it."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="surrogateescape")
    return stream or Path(os.devnull).open()


def _closed_stream() -> TextIO:
    """Return a stream on which every write fails with "Bad file descriptor"."""
    return open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: PTH123


def _discard(stream: TextIO) -> None:
    """Let the descriptor of a stream mean `/dev/null`, also for what is still in its buffer, and for other writers."""
    with suppress(OSError):  # a stream without a descriptor has no such buffer
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
