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
    made_for = f"{CLASHING[entrant]} beside {sysconfig.get_path('purelib')}"
    ready = home / "ready"
    if not ready.exists() or ready.read_text() != made_for:
        print(f"installing {CLASHING[entrant]} into {home} ...", flush=True)
        venv.create(home, with_pip=True, clear=True)
        parents = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
        (_packages_of(python) / "parent.pth").write_text("\n".join(parents) + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", CLASHING[entrant]], check=True)
        ready.write_text(made_for)
    return str(python)


def _packages_of(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())
