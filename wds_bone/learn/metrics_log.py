"""Write the metrics of a run to metrics.jsonl, its boards and the terminal, and draw its learning curve.

In: numbers by name.
Out: one line for each step or validation; `learning_curve.png`.
Invariant: after a resume, the file contains what an uninterrupted run would have written, except for the times, because
lines after the resumed step are removed first. A file that can no longer be written ends at that step; training
continues without it.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from matplotlib.figure import Figure
from tqdm import tqdm

from wds_bone.inference.predictions import Predictions
from wds_bone.learn.boards import BestEffort, Board
from wds_bone.learn.metrics_file import METRICS_NAME, Line, read_metrics, truncate_metrics
from wds_bone.learn.run import Progress
from wds_bone.progress import format_duration
from wds_bone.storage.durable import storage_errors, write_bytes_atomically

DrawPredictions = Callable[[Predictions], Figure]
DrawCurve = Callable[[list[Line]], bytes]
CURVE_NAME = "learning_curve.png"
PLAIN_SECONDS = 10.0
CURVE_SECONDS = 60.0


class MetricsLog:
    """A context manager that writes the metrics file, the boards, and the progress bar or plain lines.

    Args:
        folder: the folder of the run.
        progress: the progress from which the run starts or resumes; later lines of the file are removed.
        num_steps: the last step of this launch.
        elapsed_seconds: how long the run was trained for before.
        boards: where else to show the metrics; they are not closed here.
        draw_predictions: draws the figure that the boards show for a validation; None for no figure.
        draw_curve: draws the learning curve as PNG, from the lines of the file; None for no learning curve.
    """

    def __init__(
        self,
        folder: Path,
        *,
        progress: Progress,
        num_steps: int,
        elapsed_seconds: float = 0.0,
        boards: Sequence[Board] = (),
        draw_predictions: DrawPredictions | None = None,
        draw_curve: DrawCurve | None = None,
    ) -> None:
        self._path = folder / METRICS_NAME
        truncate_metrics(self._path, progress)
        with storage_errors(self._path):
            self._file: TextIO = self._path.open("a", encoding="utf-8")
        self._write_line = BestEffort(str(self._path), OSError)
        self._boards, self._draw_predictions = boards, draw_predictions
        self._curve = LearningCurve(folder, draw_curve)
        self._bar = tqdm(
            total=num_steps, initial=progress.step, unit="step", smoothing=0.05, disable=not sys.stderr.isatty()
        )
        self._num_steps, self._first_step, self._first_seconds = num_steps, progress.step, elapsed_seconds
        self._shown_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._write_line.close(self._file.close)
        self._curve.finish()

    def advance(self) -> None:
        """Move the progress bar by one step."""
        self._bar.update()

    def write_step(self, line: Line) -> None:
        """Write the metrics of a step, and show them next to the bar, or every few seconds if there is no terminal."""
        self._write(line)
        text = f"loss {line['loss']:.3f}  {line['images_per_second']:.0f} images/s  waiting {line['wait_fraction']:.0%}"
        if "device_peak_bytes" in line:
            text += f"  GPU {line['device_peak_bytes'] / 1e9:.1f} GB"
        text += _transfer_text(line)
        if not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
        elif time.monotonic() - self._shown_at >= PLAIN_SECONDS:
            self._show(f"step {line['step']:,} of {self._num_steps:,}  epoch {line['epoch']:.2f}  {text}", line)

    def write_validation(self, line: Line, predictions: Predictions) -> None:
        """Write the metrics of a validation, print them, and show the predictions as a figure."""
        self._write(line)
        if self._boards and self._draw_predictions is not None:
            figure = self._draw_predictions(predictions)
            for board in self._boards:
                board.show_figure("predicted and true age", figure, step=line["step"])
        interval = f"{line['val_mae_low_months']:.2f} to {line['val_mae_high_months']:.2f}"
        text = (
            f"epoch {int(line['epoch'])}  validation MAE {line['val_mae_months']:.2f} months (95 %: {interval})  "
            f"constant predictor {line['constant_mae_months']:.2f}  best so far: epoch {line['best_epoch']}"
            f"{_transfer_text(line)}"
        )
        self._show(text, line)
        self._curve.update()

    def _write(self, line: Line) -> None:
        text = json.dumps(line, allow_nan=False) + "\n"
        self._write_line(lambda: print(text, end="", file=self._file, flush=True))
        for board in self._boards:
            board.write_metrics(line)

    def _show(self, text: str, line: Line) -> None:
        """Print a line on standard output: above the progress bar if there is one, otherwise with the time."""
        time_text = "" if not self._bar.disable else f"  {self._describe_time(line)}"
        tqdm.write(text + time_text, file=sys.stdout)
        sys.stdout.flush()
        self._shown_at = time.monotonic()

    def _describe_time(self, line: Line) -> str:
        """Return the training time of the run, and the time left at the mean speed of this launch."""
        step, seconds = line["step"], line["elapsed_seconds"]
        elapsed = f"{format_duration(seconds)} elapsed"
        if not self._first_step < step < self._num_steps:
            return elapsed
        step_seconds = (seconds - self._first_seconds) / (step - self._first_step)
        return f"{elapsed}, about {format_duration((self._num_steps - step) * step_seconds)} left"


def _transfer_text(line: Line) -> str:
    """Return what has been moved over the network; empty for local shards."""
    if "bytes_fetched" not in line:
        return ""
    return (
        f"  fetched {line['bytes_fetched'] / 1e6:,.0f} MB  from the cache {line['cache_hits']:,}  "
        f"retries {line['retries']:,}  network wait {line['waited_seconds']:,.0f} s"
    )


class LearningCurve:
    """Draws `learning_curve.png` after a validation, at most every `CURVE_SECONDS`, and at the end.

    Args:
        folder: the folder of the run.
        draw: draws it as PNG, from the lines of the metrics; None for no learning curve.
    """

    def __init__(self, folder: Path, draw: DrawCurve | None) -> None:
        self._path, self._metrics_path, self._draw = folder / CURVE_NAME, folder / METRICS_NAME, draw
        self._attempt = BestEffort(str(self._path), Exception)
        self._is_outdated, self._drawn_at = not self._path.exists(), time.monotonic()

    def update(self) -> None:
        """Take note of a validation, and draw if the last time was long enough ago."""
        self._is_outdated = True
        if time.monotonic() - self._drawn_at >= CURVE_SECONDS:
            self.finish()

    def finish(self) -> None:
        """Draw if there are validations that have not been drawn."""
        if self._is_outdated:
            self._attempt(self._write)

    def _write(self) -> None:
        lines = read_metrics(self._metrics_path)
        if self._draw is not None and any("val_mae_months" in line for line in lines):
            write_bytes_atomically(self._path, self._draw(lines))
            self._is_outdated, self._drawn_at = False, time.monotonic()
