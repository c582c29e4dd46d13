"""What happened at each step -> metrics.jsonl, TensorBoard and the terminal.

In come numbers by name, out goes one line each. The invariant: after a resume the file holds what an uninterrupted run
would have written, because lines past the resumed step are cut off first.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from tqdm import tqdm

from wds_bone.shards.durable import publish

METRICS_NAME = "metrics.jsonl"
PLAIN_SECONDS = 10.0


class Journal:
    """Owns the metrics file, the progress bar and, where TensorBoard is installed, its log; a context manager.

    Args:
        folder: of the run.
        step: that the run begins or resumes at; the file's later lines are dropped.
        num_steps: of the whole run, for the progress bar.
    """

    def __init__(self, folder: Path, *, step: int, num_steps: int) -> None:
        keep_lines(folder / METRICS_NAME, step=step)
        self._file: TextIO = (folder / METRICS_NAME).open("a", encoding="utf-8")
        self._board = _open_board(folder, step)
        self._bar = tqdm(total=num_steps, initial=step, unit="step", disable=not sys.stderr.isatty())
        self._num_steps, self._shown_at = num_steps, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._file.close()
        if self._board is not None:
            self._board.close()

    def advance(self) -> None:
        """Move the progress bar by one step."""
        self._bar.update()

    def write_step(self, line: dict[str, Any]) -> None:
        """Write the metrics of a step, and show them beside the bar or, without a terminal, now and then as a line."""
        self._write(line)
        text = f"loss {line['loss']:.3f}  {line['images_per_second']:.0f} images/s  waiting {line['wait_fraction']:.0%}"
        if not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
        elif time.monotonic() - self._shown_at >= PLAIN_SECONDS:
            self._show(f"step {line['step']} of {self._num_steps}  epoch {line['epoch']:.2f}  {text}")

    def write_validation(self, line: dict[str, Any]) -> None:
        """Write the metrics of a validation and show them as a line."""
        self._write(line)
        interval = f"{line['val_mae_low_months']:.2f} to {line['val_mae_high_months']:.2f}"
        self._show(
            f"epoch {line['epoch']:.0f}  validation MAE {line['val_mae_months']:.2f} months (95 %: {interval})  "
            f"constant predictor {line['constant_mae_months']:.2f}  best so far: epoch {line['best_epoch']}"
        )

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in line.items():
                self._board.add_scalar(name, value, line["step"])

    def _show(self, text: str) -> None:
        """Print a line on standard output, above the progress bar if there is one."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        self._shown_at = time.monotonic()


def keep_lines(path: Path, *, step: int) -> None:
    """Drop the lines of later steps than `step`, and a last line that was cut short."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step)
    publish(path, lambda stream: _write_text(stream, kept))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics, in order."""
    return [json.loads(line) for line in (folder / METRICS_NAME).read_text(encoding="utf-8").splitlines()]


def _write_text(stream: Any, text: str) -> None:
    stream.write(text.encode())


def _open_board(folder: Path, step: int) -> Any:
    """Return a writer for TensorBoard, or None where the extra is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
