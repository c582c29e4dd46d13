"""Compare the packages of a machine with those that this project requires.

In: `pyproject.toml`, and what is installed.
Out: the requirements, and a line for each that is not met.
Invariant: only the standard library and `packaging` are imported, which pytest needs, so that it can name
everything else that is missing.
"""

import importlib.metadata
import tomllib

from packaging.requirements import Requirement

from benchmarks.gpu.limited import ROOT

FOR_TESTS = ("hypothesis", "pytest", "pytest-timeout")


def project_requirements() -> list[Requirement]:
    """Return what the project requires."""
    return _parsed("dependencies")


def unmet_requirements() -> list[str]:
    """Return a line for each package that is missing here or has another version than `pyproject.toml` asks for."""
    tested_with = [requirement for requirement in _parsed("dev") if requirement.name in FOR_TESTS]
    wanted = [*project_requirements(), *tested_with, Requirement("PyYAML")]  # which webdataset needs
    return [line for requirement in wanted if (line := describe_unmet(requirement))]


def describe_unmet(requirement: Requirement) -> str | None:
    """Return how a requirement is not met here; None if it is."""
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement}: is not installed"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement}: version {found} is installed"
    return None


def _parsed(group: str) -> list[Requirement]:
    """Return the dependencies of the project, or those of an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] if group == "dependencies" else project["optional-dependencies"][group]
    return [Requirement(line) for line in lines]
