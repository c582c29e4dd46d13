"""Environments of their own for entrants whose requirements clash with those of wds_bone.

In: the name of an entrant. Out: the interpreter that runs it. Invariant: nothing is installed into the environment that
the benchmark runs in; a new one sees its packages and adds its own before them.
"""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

FOLDER = Path(__file__).parent / ".environments"
CLASHING = {"mosaic": "mosaicml-streaming==0.13.0"}


def python_of(entrant: str) -> str:
    """Return the interpreter for an entrant; makes its environment on first use."""
    if entrant not in CLASHING:
        return sys.executable
    home = FOLDER / entrant
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        print(f"installing {CLASHING[entrant]} into {home} ...", flush=True)
        venv.create(home, with_pip=True, clear=True)
        (_packages_of(python) / "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", CLASHING[entrant]], check=True)
        (home / "ready").touch()
    return str(python)


def _packages_of(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())
