"""Test what a long task shows: on a terminal, and in a log."""

import io
import re
import sys
import time

import pytest
import tqdm.std

from wds_bone.progress import BYTES, LINE_SECONDS, progress

Captured = pytest.CaptureFixture[str]


class Clock:
    """A clock that moves only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


class Terminal(io.StringIO):
    """A terminal, with what was written to it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(tqdm.std, "time", clock)
    return clock


def test_the_rate_is_that_since_the_first_film(clock: Clock, capsys: Captured) -> None:
    with progress(100, "film", label="evaluate") as show:
        clock.wait(60)  # to read the first film and to predict the first batch
        show(1)
        for done in range(2, 101):
            clock.wait(2)
            show(done)
    first, *middle, last = capsys.readouterr().err.splitlines()
    assert first == "evaluate: 1 of 100 films"
    assert middle[0] == "evaluate: 6 of 100 films, 0.50 films/s, about 0:03:08 left"
    assert all("0.50 films/s" in line for line in middle)
    assert last == "evaluate: 100 of 100 films, 0.50 films/s"


def test_a_rate_that_is_not_known_is_not_shown_and_one_film_is_not_films(clock: Clock, capsys: Captured) -> None:
    with progress(1, "film", label="evaluate") as show:
        clock.wait(60)
        show(1)
    assert capsys.readouterr().err == "evaluate: 1 of 1 film\n"


@pytest.mark.parametrize(
    ("num_films", "shown"), [(1, "0.10"), (10, "1.0"), (99, "9.9"), (100, "10"), (20_000, "2,000")]
)
def test_small_rates_have_two_digits(clock: Clock, capsys: Captured, num_films: int, shown: str) -> None:
    with progress(num_films, "film", label="evaluate") as show:
        show(0)
        clock.wait(10)
        show(num_films)
    assert capsys.readouterr().err.endswith(f", {shown} films/s\n")


def test_what_was_done_before_is_not_part_of_the_rate(clock: Clock, capsys: Captured) -> None:
    with progress(1000, "sample", label="train", start=400) as show:
        show(400)
        clock.wait(LINE_SECONDS)
        show(600)
    assert capsys.readouterr().err == "train: 600 of 1,000 samples, 20 samples/s, about 0:00:20 left\n"


def test_bytes_are_shown_in_megabytes(clock: Clock, capsys: Captured) -> None:
    with progress(30_000_000, BYTES, label="verifying") as show:
        show(0)
        clock.wait(LINE_SECONDS)
        show(10_000_000)
    assert capsys.readouterr().err == "verifying: 10 of 30 MB, 1.0 MB/s, about 0:00:20 left\n"


def test_the_bar_of_a_terminal_has_the_rate_since_the_first_film(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress(100, "film", label="predict") as show:
        clock.wait(60)
        show(1)
        before = terminal.getvalue()
        for done in range(2, 12):
            clock.wait(2)
            show(done)
    assert "1/100" in before
    assert set(re.findall(r", +(\S+/? film/?s?)\]", before)) == {"? film/s"}
    after = terminal.getvalue().removeprefix(before)
    assert set(re.findall(r", +(\S+/? film/?s?)\]", after)) == {"2.00s/ film"}
    assert "11/100 [00:20<02:58" in after
