"""Test what becomes of a command whose standard streams are closed, full or gone, or cannot encode a character."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
from wds_bone.command_line import Command, run_command

def run(_config, _interruption):
    Path("work").write_text("")
    for number in range(3):
        print(f"line {number} of the h\\xe4nde \\udcff")
    print("an error", file=sys.stderr)
    Path("work").write_text("done, " + "".join(sys.stdin))
    return 7

command = Command("wds-bone try", "", "", "", prints_result=sys.argv[1] == "result")
sys.exit(run_command(command, parse=lambda: None, run=run))
"""
LOSSES = {
    "full": "No space left on device",
    "closed": "Bad file descriptor",
    "pipe": "Broken pipe",
    "terminal": "Input/output error",
}
Finished = subprocess.CompletedProcess[str]


@contextmanager
def lost_stream(kind: str) -> Iterator[int]:
    """Yield a descriptor that cannot be written to; for "closed", the child has to close it."""
    if kind == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        other, descriptor = os.openpty() if kind == "terminal" else os.pipe()
        os.close(other)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def run_losing(folder: Path, program: list[str], *, stdout: str = "", stderr: str = "") -> Finished:
    """Run Python with lost streams; the streams without a kind of loss are captured."""
    lost = {"stdout": stdout, "stderr": stderr}
    closed = [number for number, kind in ((1, stdout), (2, stderr)) if kind == "closed"]
    with lost_stream(stdout or "full") as output, lost_stream(stderr or "full") as errors:
        descriptors = {"stdout": output, "stderr": errors}
        pipes = {name: descriptors[name] if kind else subprocess.PIPE for name, kind in lost.items()}
        return subprocess.run(
            [sys.executable, *program],
            **pipes,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONUTF8": "1"},
            text=True,
            timeout=60,
            check=False,
            preexec_fn=lambda: [os.close(number) for number in closed],
        )


@pytest.mark.fault("E7")
@pytest.mark.parametrize("kind", LOSSES)
def test_a_log_that_is_lost_does_not_end_the_command_and_is_said_once(tmp_path: Path, kind: str):
    finished = run_losing(tmp_path, ["-c", PROGRAM, "log"], stdout=kind)
    assert finished.returncode == 7
    assert (tmp_path / "work").read_text() == "done, "
    warning = f"warning: standard output: cannot be written: {LOSSES[kind]}; `wds-bone try` continues without it"
    assert finished.stderr == f"{warning}\nan error\n"


@pytest.mark.fault("E7")
@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_of_standard_error_is_said_on_standard_output(tmp_path: Path, kind: str):
    finished = run_losing(tmp_path, ["-c", PROGRAM, "log"], stderr=kind)
    assert finished.returncode == 7
    assert finished.stdout.count("warning: standard error: cannot be written: " + LOSSES[kind]) == 1


@pytest.mark.fault("E7")
@pytest.mark.parametrize("kinds", [("closed", "closed"), ("pipe", "full")])
def test_a_command_without_any_stream_ends_by_its_own_result(tmp_path: Path, kinds: tuple[str, str]):
    assert run_losing(tmp_path, ["-c", PROGRAM, "log"], stdout=kinds[0], stderr=kinds[1]).returncode == 7
    assert (tmp_path / "work").read_text() == "done, ", "the file must not have got the number of a closed stream"


@pytest.mark.fault("E7")
@pytest.mark.parametrize("kind", LOSSES)
def test_a_result_that_is_lost_ends_the_command_silently_only_for_a_closed_pipe(tmp_path: Path, kind: str):
    finished = run_losing(tmp_path, ["-c", PROGRAM, "result"], stdout=kind)
    if kind == "pipe":
        assert (finished.returncode, finished.stderr) == (141, "")
    else:
        assert finished.returncode == 2
        assert finished.stderr.startswith(f"error: standard output: cannot be written: {LOSSES[kind]}\n  do: ")
    assert (tmp_path / "work").read_text() == ""


@pytest.mark.fault("E7")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_help_that_is_lost_is_an_error(tmp_path: Path, option: str):
    program = ["-m", "wds_bone", option]
    assert run_losing(tmp_path, program, stdout="pipe").returncode == 141
    assert run_losing(tmp_path, program, stdout="full").returncode == 2


@pytest.mark.fault("E7")
def test_the_help_of_a_command_that_can_lose_its_log_is_a_result(tmp_path: Path):
    finished = run_losing(tmp_path, ["-m", "wds_bone.make_shards", "--help"], stdout="pipe")
    assert (finished.returncode, finished.stderr) == (141, "")


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", r"h\xe4nde \udcff"), ("utf-8", r"hände \udcff")])
def test_characters_that_a_stream_cannot_encode_are_escaped(
    tmp_path: Path, encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    finished = run_losing(tmp_path, ["-c", PROGRAM, "result"])
    assert finished.stdout.splitlines() == [f"line {number} of the {shown}" for number in range(3)]
