"""Separate environments for packages whose requirements conflict with those of wds_bone.

In: the name of a loader.
Out: the interpreter that runs it.
Invariant: nothing is installed into the environment that runs the benchmark; a new environment sees the packages of
that environment, and its own packages take precedence.
"""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

FOLDER = Path(__file__).parent / ".environments"
CONFLICTING = {"mosaic": "mosaicml-streaming==0.13.0"}


def interpreter_for(name: str) -> str:
    """Return the interpreter that runs the loader `name`, creating its environment on first use."""
    if name not in CONFLICTING:
        return sys.executable
    environment = FOLDER / name
    python = environment / "bin" / "python"
    made_for = f"{CONFLICTING[name]} beside {sysconfig.get_path('purelib')}"
    ready = environment / "ready"
    if not ready.exists() or ready.read_text() != made_for:
        print(f"installing {CONFLICTING[name]} into {environment} ...", flush=True)
        venv.create(environment, with_pip=True, clear=True)
        parents = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
        (_site_packages(python) / "parent.pth").write_text("\n".join(parents) + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", CONFLICTING[name]], check=True)
        ready.write_text(made_for)
    return str(python)


def _site_packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())
