"""The command `wds-bone`, which runs one of the commands; also `python -m wds_bone`."""

import sys
from collections.abc import Sequence
from importlib import import_module

from wds_bone import __version__
from wds_bone.commands import COMMANDS
from wds_bone.config import run_command
from wds_bone.config_file import closest
from wds_bone.errors import ConfigError

_NAMES = [command.name.removeprefix("wds-bone ") for command in COMMANDS]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that is named first, and return its exit code; print the help if there is none."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(help_text())  # noqa: T201
        return 0
    if words[0] == "--version":
        print(f"wds-bone {__version__}")  # noqa: T201
        return 0
    return run_command(lambda: _run(words[0], words[1:]))


def help_text() -> str:
    """Return what `wds-bone --help` prints: every command with what it does and an example."""
    width = max(len(command.summary) for command in COMMANDS)
    lines = [f"  {command.summary:{width}}  {command.example}" for command in COMMANDS]
    return "\n".join(
        [
            "usage: wds-bone COMMAND [OPTION ...]   (also: --help, --version)",
            "",
            "Bone age from hand radiographs, from films to figures:",
            "",
            *lines,
            "",
            "`wds-bone COMMAND --help` lists the options of a command. For research; not a medical device.",
        ]
    )


def _run(name: str, argv: Sequence[str]) -> int:
    if name not in _NAMES:
        similar = closest(name, _NAMES)
        do = "see `wds-bone --help`" if similar is None else f"write wds-bone {similar}"
        raise ConfigError(f"there is no command {name!r}", expected=", ".join(_NAMES), got=name, do=do)
    # Imported late: most commands import torch, which `wds-bone --help` must not wait for.
    module = import_module(f"wds_bone.{name.replace('-', '_')}")
    code: int = module.main(argv)
    return code


if __name__ == "__main__":
    sys.exit(main())
