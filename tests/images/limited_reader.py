"""Read images in one process that may use 1 GiB, for the tests: a path per line in, the outcome per line out."""

import resource
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

MEMORY_BYTES, SECONDS = 2**30, 10
_PROGRAM = "from tests.images.limited_reader import serve; serve()"


class LimitedReader:
    """The process; it is started when it is needed, and again after it was killed."""

    def __enter__(self) -> Self:
        self._process: subprocess.Popen[str] | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=10)

    def outcome(self, path: Path) -> str:
        """Return "image", "error", or what else happened when the process read the file."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-W", "error", "-c", _PROGRAM]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip() or f"killed by signal {-self._process.wait(timeout=10)}"


def serve() -> None:
    """Read the paths on standard input; SIGALRM kills the process after 10 s, whatever it does."""
    import signal

    import wds_bone.images.dicom  # so that its import counts for no film
    from wds_bone.images.read import read_image

    assert wds_bone.images.dicom
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        signal.alarm(SECONDS)
        outcome = _outcome(read_image, Path(line.rstrip("\n")))
        signal.alarm(0)
        print(outcome, flush=True)


def _outcome(read: object, path: Path) -> str:
    from wds_bone.errors import ImageError

    try:
        image = read(path)  # type: ignore[operator]
    except ImageError as error:
        return "error" if error.problem.startswith(f"{path}: ") and "\n" not in error.problem else repr(error)
    except BaseException as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")
    return "image" if image.ndim == 2 and image.dtype == "uint8" and image.size else f"{image.shape} {image.dtype}"
