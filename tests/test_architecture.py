"""The shape of the package: rooms import only downward, and the read path cannot execute anything."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "wds_bone"
BASE_MODULES = [
    "errors",
    "figure_style",
    "config",
    "config_file",
    "command_line",
    "commands",
    "failures",
    "help_texts",
    "interrupt",
    "paths",
    "progress",
    "redaction",
    "standard_streams",
]
ROOMS = [
    "objects",
    "storage",
    "remote",
    "labels",
    "images",
    "phantom",
    "shards",
    "sharding",
    "stream",
    "model",
    "distributed",
    "inference",
    "learn",
    "report",
]
MAX_FILES_IN_A_ROOM = 18
# shutil is allowed: it reports the free space of a disk.
FORBIDDEN_IN_READ_PATH = {"pickle", "tarfile", "subprocess", "webdataset.gopen", "marshal", "shelve", "dill"}
MODULES = sorted(PACKAGE.rglob("*.py"))
PARTS = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES}


def name_of(path: Path) -> str:
    name = ".".join(["wds_bone", *path.relative_to(PACKAGE).with_suffix("").parts])
    return name.removesuffix(".__init__")


def own_imports(path: Path) -> set[str]:
    return {name for name in imports_of(path) if name.startswith("wds_bone.")}


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    members = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    return plain | {str(node.module) for node in froms} | members


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_the_rooms_below_it(module: Path) -> None:
    parts = module.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] in ROOMS:
        allowed = [*BASE_MODULES, *ROOMS[: ROOMS.index(parts[0]) + 1]]
    elif parts[0] in BASE_MODULES:
        allowed = [*BASE_MODULES]
    else:
        allowed = [*BASE_MODULES, *ROOMS, "__main__"]  # `python -m wds_bone.train` starts there
    imported = {name.split(".")[1] for name in own_imports(module)}
    assert imported & PARTS <= set(allowed)


def test_every_folder_is_a_known_room_of_limited_size() -> None:
    files = [path.relative_to(PACKAGE).parts[0] for path in MODULES if path.parent != PACKAGE]
    assert set(files) == set(ROOMS)
    assert max(map(files.count, ROOMS)) <= MAX_FILES_IN_A_ROOM
    assert all(len(path.relative_to(PACKAGE).parts) <= 2 for path in MODULES)


def test_there_are_no_import_cycles() -> None:
    imported = {name_of(path): own_imports(path) & {name_of(other) for other in MODULES} for path in MODULES}
    while free := [name for name, others in imported.items() if not others & imported.keys()]:
        for name in free:
            del imported[name]
    assert imported == {}


def test_a_constant_is_defined_in_one_place() -> None:
    assignment = re.compile(r"^([A-Z][A-Z_]*)(?:: .+)? = (.+)$", re.MULTILINE)
    constants = Counter(pair for path in MODULES for pair in assignment.findall(path.read_text()))
    assert {"EXIT_SOME_FAILED", "GENDER_NAMES"} <= {name for name, _ in constants}
    assert [name for (name, _), count in constants.items() if count > 1] == []


def read_path() -> list[Path]:
    """Return the modules of the room `stream`, and all modules that they import directly or indirectly."""
    by_name = {name_of(path): path for path in MODULES}
    reached, found = set[str](), {name for name in by_name if name.startswith("wds_bone.stream.")}
    while found:
        reached |= found
        found = {name for module in found for name in imports_of(by_name[module]) if name in by_name} - reached
    return sorted(by_name[name] for name in reached)


def test_the_read_path_is_found() -> None:
    names = {path.name for path in read_path()}
    assert {"local.py", "decode.py", "manifest.py", "scan.py", "tar.py", "sidecars.py", "samples.py"} <= names


@pytest.mark.parametrize("module", read_path(), ids=lambda path: path.name)
def test_the_read_path_imports_nothing_that_executes(module: Path) -> None:
    assert not imports_of(module) & FORBIDDEN_IN_READ_PATH


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_unpickles(module: Path) -> None:
    source = module.read_text()
    assert "allow_pickle=True" not in source
    assert "weights_only=False" not in source
    assert not re.search(r"pickle\.(load|loads|Unpickler)\b", source)
    assert not imports_of(module) & {"marshal", "shelve", "dill", "cloudpickle"}


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[\[><=; ]", line)[0].lower().replace("_", "-") for lines in lists for line in lines}
    distributions = packages_distributions()
    foreign = {name.split(".")[0] for path in MODULES for name in imports_of(path)} - {"wds_bone"}
    for name in sorted(foreign - sys.stdlib_module_names):
        assert {found.lower().replace("_", "-") for found in distributions.get(name, [name])} & declared, name


def test_the_import_is_lazy() -> None:
    code = (
        "import sys, wds_bone; assert not {'torch', 'numpy', 'webdataset'} & set(sys.modules); wds_bone.BoneAgeStream"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import wds_bone

    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        wds_bone.Trainer  # noqa: B018
