"""Test that every path of every command is expanded and checked alike, and before any work."""

import importlib
import os
import socket
import stat
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.command_line import Command, parse_config
from wds_bone.commands import CALIBRATE, COMMANDS, EVALUATE, MAKE_SHARDS, PREDICT, TRAIN
from wds_bone.config import options_of, setting_name
from wds_bone.config_file import kind_of
from wds_bone.errors import ConfigError
from wds_bone.images.listing import list_films
from wds_bone.learn.settings import TrainConfig
from wds_bone.paths import FileText, ShardsText, expand_path, refuse_unreadable, refuse_unusable_folder
from wds_bone.storage.location import parse_location


def config_class_of(command: Command) -> type[Any]:
    module = importlib.import_module(f"wds_bone.{command.name.removeprefix('wds-bone ').replace('-', '_')}")
    (found,) = (value for name, value in vars(module).items() if name.endswith("Config"))
    return found  # type: ignore[no-any-return]


def path_options() -> list[tuple[Command, str]]:
    """Return the settings of all commands that are paths."""
    return [
        (command, name)
        for command in COMMANDS
        for name, hint in typing.get_type_hints(config_class_of(command)).items()
        if name in options_of(config_class_of(command)) and kind_of(hint).is_path
    ]


def takes_urls(command: Command, name: str) -> bool:
    return kind_of(typing.get_type_hints(config_class_of(command))[name]).base in (FileText, ShardsText)


REQUIRED = {
    MAKE_SHARDS: {"labels": "x", "images": "x"},
    EVALUATE: {"checkpoint": "x", "out": "x"},
    CALIBRATE: {"checkpoint": "x", "out": "y"},
    PREDICT: {"checkpoint": "x", "table": "x", "images": "x"},
}
SAMPLES = {"labels": {"labels": "x", "images": "x"}, "images": {"labels": "x", "images": "x"}, "runs": {}}
"""The other settings that name the samples of `evaluate` and `calibrate`, by setting; by default the shards."""
PATH_OPTIONS = path_options()
IDS = [f"{command.name.removeprefix('wds-bone ')}-{name}" for command, name in PATH_OPTIONS]
ALL_OPTIONS = pytest.mark.parametrize(("command", "name"), PATH_OPTIONS, ids=IDS)


def parse_one(command: Command, name: str, value: str) -> Any:
    """Parse a command line with this value, and valid values for the other settings that are required."""
    config_class = config_class_of(command)
    known = options_of(config_class)
    required = dict(REQUIRED.get(command, {}))
    if command in (EVALUATE, CALIBRATE):
        required |= SAMPLES.get(name, {"shards": "x"})
    if (command, name) == (EVALUATE, "runs"):
        del required["checkpoint"]
    others = {other: text for other, text in required.items() if other != name}
    words = [text if known[other].positional else f"--{other}={text}" for other, text in others.items()]
    words.append(value if known[name].positional else f"--{name.replace('_', '-')}={value}")
    found = getattr(parse_config(config_class, words, command), name)
    return found[-1] if isinstance(found, tuple) else found


def test_every_command_has_paths():
    assert {command for command, _ in PATH_OPTIONS} == set(COMMANDS)


@pytest.mark.fault("E5", "I2")
@ALL_OPTIONS
def test_every_path_of_every_command_is_checked_and_its_home_folder_expanded(
    command: Command, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert str(parse_one(command, name, "~/some where")) == f"{tmp_path}/some where"
    assert str(parse_one(command, name, f"file://{tmp_path}/some%20where")) == f"{tmp_path}/some%20where"
    Path("some where").touch()
    assert str(parse_one(command, name, f"file://{tmp_path}/some%20where")) == f"{tmp_path}/some where"
    for bad, problem in (
        ("", "'': is empty"),
        ("file://", "'file://': is empty"),
        ("~no-such-user/x", "there is no home folder '~no-such-user'"),
        ("a\0b", "contains a NUL character"),
        ("x" * 300, "too long: 300 bytes, of at most 255"),
        ("a/" * 2500, "too long: 5000 bytes, of at most 4095"),
        ("s3://key:secret@bucket/x", r"s3://...: is not a local path"),
    ):
        if bad.startswith("s3:") and takes_urls(command, name):
            assert parse_one(command, name, bad) == bad
            continue
        with pytest.raises(ConfigError) as refused:
            parse_one(command, name, bad)
        assert problem in str(refused.value)
        assert setting_name(config_class_of(command), name) in refused.value.problem
        assert "secret" not in str(refused.value)


@pytest.mark.fault("E5")
@ALL_OPTIONS
def test_a_pipe_or_socket_in_place_of_a_file_is_refused_at_once(
    command: Command, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    known = options_of(config_class_of(command))[name]
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for special in ("pipe", "socket", os.devnull):
            if known.is_output or known.may_be_pipe:
                assert str(parse_one(command, name, special)) == special
                continue
            for spelling in (special, f"file://{tmp_path / special}"):
                with pytest.raises(ConfigError, match="is not a file"):
                    parse_one(command, name, spelling)


@pytest.mark.fault("E5")
def test_the_settings_file_must_be_a_file_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.toml").write_text('out = "~/run"\n')
    assert parse_config(TrainConfig, ["--config", "~/run.toml"], TRAIN).out == tmp_path / "run"
    assert parse_config(TrainConfig, ["--config", f"file://{tmp_path}/run.toml"], TRAIN).out == tmp_path / "run"
    assert parse_config(TrainConfig, ["--set", "out=~/x"], TRAIN).out == tmp_path / "x"
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "x" * 300, "~no-such-user"):
        with pytest.raises(ConfigError, match="--config"):
            parse_config(TrainConfig, ["--config", str(tmp_path / name) if name[0] != "~" else name], TRAIN)


texts = st.text(st.characters(exclude_categories=[]), max_size=20)


def error_of(text: str) -> ConfigError | None:
    try:
        path = expand_path(text, option="--x")
        refuse_unreadable(path, option="--x")
        os.path.lexists(path)
    except ConfigError as error:
        return error
    return None


@given(text=texts | texts.map("~".__add__) | texts.map("~/".__add__) | texts.map(lambda part: part * 300))
def test_any_text_is_a_path_that_can_be_opened_or_an_error_that_names_the_option(text: str):
    error = error_of(text)
    if error is not None:
        assert error.problem.startswith("--x ")
        assert "\0" not in str(error)


def test_a_name_that_starts_with_a_tilde_and_exists_means_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("~$labels.csv").write_text("")
    assert expand_path("~$labels.csv", option="--labels") == "~$labels.csv"


def test_a_path_that_exists_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("s3:").mkdir()
    assert expand_path("s3://", option="--train") == "s3://"
    assert parse_location("s3://") == Path("s3:")
    Path("s3:/film.png").touch()
    assert list_films(["s3://"], []).films == [Path("s3:/film.png")]


@pytest.mark.fault("B7", "E5")
@pytest.mark.parametrize("name", ["here", "file/run", "link", "link/run"])
def test_an_output_folder_that_cannot_be_one_is_refused(name: str, tmp_path: Path):
    (tmp_path / "here").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="use another --out"):
        refuse_unusable_folder(tmp_path / name)


@pytest.mark.fault("B7", "E5")
def test_names_of_another_kind_in_an_output_folder_are_refused(tmp_path: Path):
    refuse_unusable_folder(tmp_path / "new" / "run", files=["a"], folders=["b"])
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("")
    with pytest.raises(ConfigError, match=r"(?s)/a: is not a file.*got:      a folder"):
        refuse_unusable_folder(tmp_path, files=["a"])
    with pytest.raises(ConfigError, match=r"(?s)/b: is not a folder.*got:      a file"):
        refuse_unusable_folder(tmp_path, folders=["b"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.fault("B7", "E5")
def test_folders_without_permission_are_refused(tmp_path: Path):
    """As another user, because root may read and write everything."""
    locked = tmp_path / "locked"
    locked.mkdir()
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    locked.chmod(0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            code = _count_refusals(locked)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 12


def _count_refusals(locked: Path) -> int:
    code = 10
    for path in (locked, locked / "x"):
        try:
            refuse_unreadable(str(path), option="--train")
        except ConfigError:
            code += 1
    return code


@pytest.mark.fault("H1", "I2")
def test_films_of_which_one_has_a_bad_name_are_still_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ["~/a.png", "~no-such-user/b.png", "x" * 300, "-"]
    found = list_films([*names, "s3://key:secret@bucket/x.png"], ["c\0.png\n"])
    assert found.films == [tmp_path / "a.png", *map(Path, ("~no-such-user/b.png", "x" * 300, "c\0.png"))]
    assert [error.problem for error in found.errors] == ["IMAGE s3://...: is not a local path"]
