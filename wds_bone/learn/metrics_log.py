"""Write the metrics of a run to metrics.jsonl, TensorBoard and the terminal.

In: numbers by name.
Out: one line for each step or validation.
Invariant: after a resume, the file contains what an uninterrupted run would have written, because lines after the
resumed step are removed first. A file that can no longer be written ends at that step; training continues without it.
"""

import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid
from tqdm import tqdm

from wds_bone.errors import CheckpointError
from wds_bone.inference.predictions import Predictions
from wds_bone.learn.run import Progress
from wds_bone.paths import is_unicode
from wds_bone.storage.durable import storage_errors, write_bytes_atomically

Draw = Callable[[Predictions], Figure]
METRICS_NAME = "metrics.jsonl"
BOARD_NAME = "tensorboard"
PLAIN_SECONDS = 10.0


class MetricsLog:
    """A context manager that writes the metrics file, the progress bar and, if it is installed, TensorBoard.

    Args:
        folder: the folder of the run.
        progress: the progress from which the run starts or resumes; later lines of the file are removed.
        num_steps: number of steps in the whole run, for the progress bar.
        draw_predictions: draws the figure that TensorBoard shows for a validation; None for no figure.
    """

    def __init__(
        self, folder: Path, *, progress: Progress, num_steps: int, draw_predictions: Draw | None = None
    ) -> None:
        self._path = folder / METRICS_NAME
        truncate_metrics(self._path, progress)
        with storage_errors(self._path):
            self._file: TextIO = self._path.open("a", encoding="utf-8")
        self._board_path = folder / BOARD_NAME
        with storage_errors(self._board_path):
            self._board = _open_board(self._board_path, progress.step)
        self._bar = tqdm(total=num_steps, initial=progress.step, unit="step", disable=not sys.stderr.isatty())
        self._num_steps, self._shown_at = num_steps, time.monotonic()
        self._draw_predictions = draw_predictions
        self._lost = set[Path]()
        self._previous_hook = threading.excepthook

    def __enter__(self) -> Self:
        threading.excepthook = self._ignore_board_errors
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._try(self._path, self._file.close)
        if self._board is not None:
            self._try(self._board_path, self._board.close)
        threading.excepthook = self._previous_hook

    def advance(self) -> None:
        """Move the progress bar by one step."""
        self._bar.update()

    def write_step(self, line: dict[str, Any]) -> None:
        """Write the metrics of a step, and show them next to the bar, or every few seconds if there is no terminal."""
        self._write(line)
        text = f"loss {line['loss']:.3f}  {line['images_per_second']:.0f} images/s  waiting {line['wait_fraction']:.0%}"
        if "device_peak_bytes" in line:
            text += f"  GPU {line['device_peak_bytes'] / 1e9:.1f} GB"
        if not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
        elif time.monotonic() - self._shown_at >= PLAIN_SECONDS:
            self._show(f"step {line['step']} of {self._num_steps}  epoch {line['epoch']:.2f}  {text}")

    def write_inputs(self, draw: Callable[[], Tensor]) -> None:
        """Show the images from `draw` in TensorBoard, if it is installed; float32 (B, 1, H, W), 0 to 1."""
        if self._board is not None:
            images = make_grid(draw().clamp(0, 1))
            self._record(self._board_path, lambda: self._board.add_image("augmented inputs", images, 0))

    def write_validation(self, line: dict[str, Any], predictions: Predictions) -> None:
        """Write the metrics of a validation, print them, and show the predictions as a figure."""
        self._write(line)
        if self._board is not None and self._draw_predictions is not None:
            figure = self._draw_predictions(predictions)
            self._record(
                self._board_path, lambda: self._board.add_figure("predicted and true age", figure, line["step"])
            )
        interval = f"{line['val_mae_low_months']:.2f} to {line['val_mae_high_months']:.2f}"
        self._show(
            f"epoch {int(line['epoch'])}  validation MAE {line['val_mae_months']:.2f} months (95 %: {interval})  "
            f"constant predictor {line['constant_mae_months']:.2f}  best so far: epoch {line['best_epoch']}"
        )

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, allow_nan=False) + "\n"
        self._record(self._path, lambda: print(text, end="", file=self._file, flush=True))
        if self._board is not None:
            self._record(self._board_path, lambda: self._write_to_board(line))

    def _write_to_board(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            self._board.add_scalar(name, value, line["step"])

    def _record(self, path: Path, write: Callable[[], None]) -> None:
        """Call `write` until `path` cannot be written to for the first time; what is there then stays readable."""
        if path not in self._lost:
            self._try(path, write)

    def _try(self, path: Path, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if path not in self._lost:
                text = f"warning: {path}: cannot be written: {error.strerror}; training continues without it"
                print(text, file=sys.stderr)  # noqa: T201
            self._lost.add(path)

    def _ignore_board_errors(self, failure: threading.ExceptHookArgs) -> None:
        """Show no traceback when the thread of TensorBoard cannot write: the next write reports it."""
        if not isinstance(failure.exc_value, OSError):
            self._previous_hook(failure)

    def _show(self, text: str) -> None:
        """Print a line on standard output, above the progress bar if there is one."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        self._shown_at = time.monotonic()


def truncate_metrics(path: Path, progress: Progress) -> None:
    """Remove the lines of steps and validations after `progress`, and an incomplete last line.

    Raises:
        CheckpointError: if a line is damaged.
        WdsBoneError: if the file cannot be written.
    """
    if not path.exists():
        return
    with storage_errors(path):
        lines = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    kept = [line for number, line in enumerate(whole, 1) if _is_within(line, progress, where=f"{path}: line {number}")]
    write_bytes_atomically(path, b"".join(kept))


def _is_within(line: bytes, progress: Progress, *, where: str) -> bool:
    """Return whether `progress` includes the step or the validation of a line."""
    try:
        numbers = json.loads(line)
        validated = "val_mae_months" not in numbers or int(numbers["epoch"]) <= progress.validated_epochs
        return bool(numbers["step"] <= progress.step and validated)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"{where} is damaged",
            expected="the metrics of a step or a validation",
            got=f"{type(error).__name__}: {error}",
            do="fix or delete that line, then run the command again",
        ) from error


def _open_board(path: Path, step: int) -> Any:
    """Return a writer for TensorBoard, or None if the extra is not installed, or does not support the path."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    if not is_unicode(path):
        warning = f"warning: {path}: TensorBoard needs a path in Unicode; training continues without it"
        print(warning, file=sys.stderr)  # noqa: T201
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(path), purge_step=step + 1)
