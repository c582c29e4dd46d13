"""Show the metrics of a run in TensorBoard and in Weights & Biases.

In: numbers by name, figures and images.
Out: what these programs read: a folder, and a server.
Invariant: a board that fails prints one warning and receives nothing more; training continues without it. Films stay on
this machine: Weights & Biases receives numbers and figures only.
"""

import importlib.util
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.paths import is_unicode
from wds_bone.storage.durable import storage_errors, write_bytes_atomically

TENSORBOARD_NAME, WANDB_NAME = "tensorboard", "wandb"
BOARD_NAMES = (TENSORBOARD_NAME, WANDB_NAME)
"""The folders of the boards in the folder of a run."""
LOGIN_SECONDS, UPLOAD_SECONDS = 30.0, 60.0
"""How long Weights & Biases may wait for a person at the start, and for the network at the end."""


class BestEffort:
    """Calls what is not essential, until a call fails: then it prints one warning, and makes no further calls.

    Args:
        name: what fails, for the warning.
        failures: the exceptions that are no bugs.
    """

    def __init__(self, name: str, *failures: type[Exception]) -> None:
        self._name, self._failures = name, failures
        self.has_failed = False

    def __call__(self, call: Callable[[], object]) -> None:
        """Call `call`, unless a call has failed before."""
        if not self.has_failed:
            self.close(call)

    def close(self, call: Callable[[], object]) -> None:
        """Call `call`, even if a call has failed before; a further failure gives no further warning."""
        try:
            call()
        except self._failures as error:
            if not self.has_failed:
                print(f"warning: {self._describe(error)}; training continues without it", file=sys.stderr)  # noqa: T201
            self.has_failed = True

    def _describe(self, error: Exception) -> str:
        if isinstance(error, WdsBoneError):
            return error.problem
        if isinstance(error, OSError) and error.strerror:
            return f"{self._name}: cannot be written: {error.strerror}"
        return " ".join(f"{self._name}: {type(error).__name__}: {error}".split())


class TensorBoard:
    """Writes a folder that TensorBoard reads.

    Args:
        path: the folder.
        step: number of steps taken before; what was shown for later ones is hidden.

    Raises:
        WdsBoneError: if the folder cannot be created.
    """

    def __init__(self, path: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with storage_errors(path):
            self._writer: Any = SummaryWriter(str(path), purge_step=step + 1)
        self._attempt = BestEffort(str(path), OSError)
        self._previous_hook, threading.excepthook = threading.excepthook, self._ignore_failed_writes

    def write_metrics(self, line: Mapping[str, Any]) -> None:
        """Add each number of a line to the curve of its name."""
        self._attempt(lambda: [self._writer.add_scalar(name, value, line["step"]) for name, value in line.items()])

    def show_figure(self, name: str, figure: Figure, *, step: int) -> None:
        """Show a figure next to those of other steps."""
        self._attempt(lambda: self._writer.add_figure(name, figure, step))

    def show_films(self, name: str, films: Tensor) -> None:
        """Show images, float32 (B, 1, H, W), 0 to 1."""
        self._attempt(lambda: self._writer.add_image(name, make_grid(films), 0))

    def close(self) -> None:
        """Write what is left."""
        self._attempt.close(self._writer.close)
        threading.excepthook = self._previous_hook

    def _ignore_failed_writes(self, failure: threading.ExceptHookArgs) -> None:
        """Show no traceback when the thread of TensorBoard cannot write: the next write reports it."""
        if not isinstance(failure.exc_value, OSError):
            self._previous_hook(failure)


class WeightsAndBiases:
    """Sends metrics and figures to Weights & Biases; all launches of a run continue one run there.

    The account, the server and the mode (`WANDB_MODE=offline`) are those of its own environment variables and files.

    Args:
        folder: the folder of the run; its folder `wandb` keeps what is sent, and the id of the run.
        project: the project to which the run is added.
        settings: the settings of the run, in plain JSON types.
    """

    def __init__(self, folder: Path, *, project: str, settings: Mapping[str, Any]) -> None:
        self._attempt = BestEffort("Weights & Biases", Exception)
        self._run: Any = None
        self._attempt(lambda: self._open(folder, project, settings))

    def _open(self, folder: Path, project: str, settings: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=project,
            name=folder.absolute().name,
            id=_wandb_id(folder / WANDB_NAME),
            resume="allow",
            dir=folder,
            config=dict(settings),
            settings=wandb.Settings(
                console="off",  # the standard streams belong to the command
                silent=True,
                disable_code=True,
                disable_git=True,
                login_timeout=LOGIN_SECONDS,
                finish_timeout=UPLOAD_SECONDS,
                finish_timeout_raises=True,
            ),
        )
        # Steps that are repeated after a resume would be dropped if they were the steps of Weights & Biases itself.
        self._run.define_metric("*", step_metric="step")
        print(f"Weights & Biases: {_describe_wandb(self._run)}", flush=True)  # noqa: T201

    def write_metrics(self, line: Mapping[str, Any]) -> None:
        """Add each number of a line to the curve of its name."""
        self._attempt(lambda: self._run.log(dict(line)))

    def show_figure(self, name: str, figure: Figure, *, step: int) -> None:
        """Show a figure next to those of other steps."""
        self._attempt(lambda: self._run.log({name: _as_wandb_image(figure), "step": step}))

    def close(self) -> None:
        """Wait until everything has been sent, at most `UPLOAD_SECONDS`, and end the process that sends it."""
        if self._run is not None:
            self._attempt.close(self._run.finish)
        self._attempt.close(_end_wandb)


Board = TensorBoard | WeightsAndBiases


@contextmanager
def open_boards(
    folder: Path, *, step: int, project: str | None = None, settings: Mapping[str, Any] | None = None
) -> Iterator[list[Board]]:
    """Open TensorBoard if it is installed, and Weights & Biases if there is a project; close them at the end.

    Args:
        folder: the folder of the run.
        step: number of steps taken before.
        project: the project of Weights & Biases; None for no such board.
        settings: the settings of the run, which Weights & Biases shows.

    Raises:
        WdsBoneError: if the folder of TensorBoard cannot be created.
    """
    boards = list[Board]()
    try:
        if _has_tensorboard(folder / TENSORBOARD_NAME):
            boards.append(TensorBoard(folder / TENSORBOARD_NAME, step=step))
        if project is not None:
            boards.append(WeightsAndBiases(folder, project=project, settings=settings or {}))
        yield boards
    finally:
        for board in boards:
            board.close()


def refuse_missing_wandb(project: str | None) -> None:
    """Check that Weights & Biases is installed if it is to show the run.

    Raises:
        ConfigError: if it is not.
    """
    if project is not None and importlib.util.find_spec("wandb") is None:
        problem = f"--set wandb={project}: Weights & Biases is not installed"
        raise ConfigError(problem, do="run `pip install wandb`, or leave this setting out")


def _has_tensorboard(path: Path) -> bool:
    """Return whether the extra is installed and can write to the path; if it cannot, print a warning."""
    if importlib.util.find_spec("tensorboard") is None:
        return False
    try:
        importlib.import_module("torch.utils.tensorboard")
    except Exception as error:  # of packages that do not fit together
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"warning: TensorBoard cannot be imported: {cause}; training continues without it", file=sys.stderr)  # noqa: T201
        return False
    if not is_unicode(path):
        warning = f"warning: {path}: TensorBoard needs a path in Unicode; training continues without it"
        print(warning, file=sys.stderr)  # noqa: T201
    return is_unicode(path)


def _wandb_id(folder: Path) -> str:
    """Return the id of the run in `folder`; a new one is written there, so that later launches find it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run_id"
    if not path.exists():
        write_bytes_atomically(path, uuid.uuid4().hex[:8].encode())
    return path.read_text()


def _end_wandb() -> None:
    import wandb

    wandb.teardown()


def _describe_wandb(run: Any) -> str:
    if run.disabled:
        return "disabled"
    return str(run.url or f"offline; upload with `wandb sync {Path(run.dir).parent}`")


def _as_wandb_image(figure: Figure) -> Any:
    """Return a figure as an image; Weights & Biases itself would need pyplot to draw it."""
    import wandb

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return wandb.Image(Image.fromarray(np.asarray(canvas.buffer_rgba())))
