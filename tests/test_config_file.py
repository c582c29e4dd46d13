"""Test settings from files and from `--set`: they are read back unchanged, and invalid ones are refused by name."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.command_line import parse_config
from wds_bone.commands import TRAIN
from wds_bone.config import config_as_json, option
from wds_bone.config_file import settings_as_toml
from wds_bone.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Settings:
    names: tuple[str, ...] = option("words", default=("a",))
    others: tuple[str, ...] | None = option("more words", default=None)
    path: Path = option("a path", default=Path("here"), is_output=True)
    kind: Literal["one", "two"] = option("a choice", default="one")
    count: int = option("a number", default=3)
    rate: float | None = option("a rate", default=None, flag=False)
    limits: tuple[float, float] | None = option("two numbers", default=None, metavar="LOW HIGH")
    deep: bool = option("a switch", default=False, flag=False)
    label: str = option("a word", default="none", flag=False)


def parse(*argv: str) -> Settings:
    return parse_config(Settings, argv, TRAIN)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
paths = st.text(st.characters(exclude_characters="~\0"), max_size=8).map(Path)
all_settings = st.builds(
    Settings,
    names=st.lists(texts, min_size=1, max_size=3).map(tuple),
    others=st.none() | st.lists(texts, min_size=1, max_size=2).map(tuple),
    path=paths,
    kind=st.sampled_from(["one", "two"]),
    count=st.integers(-(1 << 62), 1 << 62),
    limits=st.none() | st.tuples(st.floats(0, 1), st.floats(2, 3)),
    rate=st.none() | st.floats(allow_nan=False),
    deep=st.booleans(),
    label=texts,
)


@given(settings=all_settings)
def test_settings_that_are_written_are_read_back_unchanged(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_bytes(settings_as_toml(config_as_json(settings)))
    assert parse("--config", str(path)) == settings


def test_flags_and_set_take_precedence_over_the_file_and_the_file_over_the_defaults(tmp_path: Path):
    path = tmp_path / "config.toml"
    path.write_text('count = 5\nrate = 1\ndeep = true\nkind = "two"\n')
    assert parse("--config", str(path)) == Settings(count=5, rate=1.0, deep=True, kind="two")
    settings = parse("--config", str(path), "--count", "7", "--set", "deep=false", "rate=0.5", "--set", "label=x y")
    assert settings == Settings(count=7, rate=0.5, deep=False, kind="two", label="x y")


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("label=7", {"label": "7"}),
        ("label='7'", {"label": "7"}),
        ("label=a=b", {"label": "a=b"}),
        ("path=a/b", {"path": Path("a/b")}),
        ("names=a", {"names": ("a",)}),
        ('names=["a", "b"]', {"names": ("a", "b")}),
        ("rate=1e-3", {"rate": 1e-3}),
        ("kind=two", {"kind": "two"}),
    ],
)
def test_values_of_set_are_toml_but_strings_need_no_quotes(assignment: str, expected: dict[str, Any]):
    assert parse("--set", assignment) == Settings(**expected)


@pytest.mark.fault("E5")
@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("coun=3", "use count"),
        ("count", "--set key=value"),
        ("count=three", "a whole number"),
        ("count=1.5", "a whole number"),
        ("count=true", "a whole number"),
        ("rate=fast", "a number"),
        ("deep=1", "true or false"),
        ("deep=yes", "true or false"),
        ("kind=three", "one or two"),
        ("limits=[1, 2, 3]", "a list of 2"),
        ("limits=1", "a list of 2"),
        ("names=[1, 2]", "each element is a string"),
        ("names=[]", "each element is a string"),
    ],
)
def test_an_invalid_assignment_is_refused_with_what_is_expected(assignment: str, message: str):
    with pytest.raises(ConfigError) as refused:
        parse("--set", assignment)
    assert message in str(refused.value)


@pytest.mark.fault("E5")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"count = 'x'", "a whole number"),
        (b"[table]\nx = 1", "unknown setting 'table'"),
        (b"count 3", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        (b"Config = 3", "unknown setting"),
    ],
)
def test_an_invalid_file_is_reported_with_its_name(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        parse("--config", str(path))
    assert str(path) in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.fault("E5")
def test_a_missing_file_is_reported_with_its_name(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        parse("--config", str(tmp_path / "gone.toml"))


def test_an_optional_setting_can_be_unset_again(tmp_path: Path):
    path = tmp_path / "config.toml"
    path.write_text('rate = 2.0\nothers = "none"\n')
    assert parse("--config", str(path), "--set", "rate=none", "label=none") == Settings()
    with pytest.raises(ConfigError, match="count"):
        parse("--set", "count=none")


@pytest.mark.fault("E5")
def test_a_setting_that_is_given_twice_is_refused():
    with pytest.raises(ConfigError, match="--count and --set count change the same setting"):
        parse("--count", "3", "--set", "count=4")
    with pytest.raises(ConfigError, match="given twice"):
        parse("--set", "rate=3", "rate=4")
