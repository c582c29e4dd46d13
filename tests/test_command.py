"""Test the `wds-bone` command: its help, its suggestions for mistyped words, and a wheel without the clone."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from wds_bone import __version__
from wds_bone.__main__ import help_text, main
from wds_bone.command_line import run_command
from wds_bone.commands import COMMANDS, TRAIN, VERIFY, Command
from wds_bone.config import options_of

ROOT = Path(__file__).parent.parent
HEAVY = "{'torch', 'numpy', 'webdataset', 'matplotlib', 'PIL'}"


def module_of(command: Command) -> str:
    return command.name.removeprefix("wds-bone ").replace("-", "_")


def test_the_help_has_one_line_with_an_example_for_each_command(capsys: pytest.CaptureFixture[str]):
    for argv in ([], ["--help"], ["-h"]):
        assert main(argv) == 0
        assert capsys.readouterr().out == help_text() + "\n"
    lines = [line for line in help_text().splitlines() if "  wds-bone " in line]
    assert [line.partition("  wds-bone ")[2] for line in lines] == [
        command.example.removeprefix("wds-bone ") for command in COMMANDS
    ]
    assert len(lines) == 7
    assert max(map(len, help_text().splitlines())) <= 120


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"wds-bone {__version__}\n"


def test_help_and_import_do_not_load_the_large_packages():
    code = f"import sys, wds_bone.__main__ as m; m.main(['--help']); assert not {HEAVY} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", COMMANDS, ids=module_of)
def test_every_command_has_a_module_and_a_help_that_ends_with_its_example(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit, match="0"):
        main([module_of(command).replace("_", "-"), "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {command.name} ")
    assert text.rstrip().endswith(f"example:\n  {command.example}")


@pytest.mark.parametrize("command", COMMANDS, ids=module_of)
def test_metavars_describe_the_value_of_each_option(command: Command):
    module = importlib.import_module(f"wds_bone.{module_of(command)}")
    (config_class,) = (value for name, value in vars(module).items() if name.endswith("Config"))
    for name, option in options_of(config_class).items():
        assert option.metavar is None or option.metavar != name.upper()
        annotation = str(config_class.__dataclass_fields__[name].type)
        if option.flag and not any(kind in annotation for kind in ("bool", "int", "float", "Literal")):
            assert option.metavar, name


@pytest.mark.fault("E5")
@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["trian"], "use wds-bone train"),
        (["make_shard"], "use wds-bone make-shards"),
        (["xyz"], "see `wds-bone --help`"),
        (["train", "--batchsize", "4"], "use --batch-size"),
        (["train", "--epoch=3"], "use --epochs"),
        (["train", "--augment-flip"], "use --set augment_flip=VALUE"),
        (["evaluate", "--checkpiont", "best.pt"], "use --checkpoint"),
        (["predict", "--zzzzzz"], "see `wds-bone predict --help`"),
        (["train", "--epochs", "many"], "see `wds-bone train --help`"),
        (["evaluate"], "see `wds-bone evaluate --help`"),
    ],
)
def test_the_error_for_a_mistyped_word_suggests_the_most_similar_one(
    argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]
):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert f"do:       {hint}" in captured.err
    assert captured.out == ""


@pytest.mark.slow
def test_an_installed_wheel_runs_all_steps_without_the_clone(tmp_path: Path):
    """The new environment has no access to the clone; it uses the installed dependencies of wds_bone."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    source = tmp_path / "source"
    shutil.copytree(ROOT / "wds_bone", source / "wds_bone", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*build, str(tmp_path), str(source)], check=True, timeout=300)
    (wheel,) = tmp_path.glob("wds_bone-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=300)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True, timeout=300)
    purelib = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # This adds the folder only: the .pth file in it that points to the clone is not processed.
    Path(purelib, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = str(tmp_path / "venv" / "bin" / "wds-bone")
    commands = [
        ["make-shards", "--synthetic", "24", "--size", "32", "--out", "shards", "--workers", "2"],
        ["verify", "shards", "--deep"],
        ["train", "--train", "shards", "--out", "run", "--epochs", "1", "--batch-size", "8", "--device", "cpu"],
        ["evaluate", "--checkpoint", "run/best.pt", "--shards", "shards", "--split", "val", "--out", "report"],
    ]
    commands[2] += ["--model", "shufflenet_v2_x0_5", "--image-size", "32"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for argv in commands:
        subprocess.run([command, *argv], cwd=tmp_path, check=True, timeout=300, env=environment)
    assert (tmp_path / "report" / "metrics.json").exists()
    where = "import wds_bone; print(wds_bone.__file__)"
    found = subprocess.run(
        [str(python), "-c", where], cwd=tmp_path, check=True, capture_output=True, text=True, env=environment
    )
    assert found.stdout.startswith(purelib)


SIGNALS = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)]


@pytest.mark.fault("E3", "E8")
@pytest.mark.parametrize(("number", "exit_code"), SIGNALS)
@pytest.mark.parametrize("command", COMMANDS, ids=module_of)
def test_a_signal_ends_every_command_with_a_sentence_and_its_exit_code(
    command: Command, number: signal.Signals, exit_code: int, capsys: pytest.CaptureFixture[str]
):
    def run(_config: None, _interruption: object) -> None:
        os.kill(os.getpid(), number)

    assert run_command(command, parse=lambda: None, run=run) == exit_code
    assert capsys.readouterr().err == f"stopped by {number.name}; {command.after_signal}\n"


def test_only_one_process_of_a_machine_says_that_it_was_stopped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_command(TRAIN, parse=lambda: os.kill(os.getpid(), signal.SIGTERM), run=lambda *_: 0) == 143
    assert capsys.readouterr().err == ""


@pytest.mark.fault("B7")
def test_a_fault_of_the_file_system_that_nothing_else_reports_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert run_command(VERIFY, parse=lambda: None, run=lambda *_: len((tmp_path / "loop").read_text())) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'loop'}: cannot be used: Too many levels")


@pytest.mark.slow
@pytest.mark.fault("E3")
@pytest.mark.parametrize("entry", [["-m", "wds_bone", "train"], ["-m", "wds_bone.train"]])
def test_a_signal_while_torch_is_imported_is_answered_without_a_traceback(entry: list[str], tmp_path: Path):
    """A module named torch that waits takes the place of torch."""
    (tmp_path / "torch.py").write_text("import signal, time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, *entry, "--train", "x"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "stopped by SIGINT; run the same command again to continue\n"
