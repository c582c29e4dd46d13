"""Run one of the commands: `wds-bone COMMAND`, or `python -m wds_bone COMMAND`."""

import sys
from collections.abc import Sequence
from importlib import import_module

from wds_bone import __version__
from wds_bone.command_line import run_command
from wds_bone.commands import COMMANDS
from wds_bone.config_file import closest
from wds_bone.errors import ConfigError

_NAMES = [command.name.removeprefix("wds-bone ") for command in COMMANDS]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names, and return its exit code; without arguments, print the help."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(help_text())  # noqa: T201
        return 0
    if words[0] == "--version":
        print(f"wds-bone {__version__}")  # noqa: T201
        return 0
    return run_command(lambda: _run(words[0], words[1:]))


def help_text() -> str:
    """Return the text of `wds-bone --help`: what each command does, with an example."""
    width = max(len(command.summary) for command in COMMANDS)
    lines = [f"  {command.summary:{width}}  {command.example}" for command in COMMANDS]
    return "\n".join(
        [
            "usage: wds-bone COMMAND [OPTION ...]   (also: --help, --version)",
            "",
            "Estimate bone age from hand radiographs. The commands, in the order in which they are used:",
            "",
            *lines,
            "",
            "`wds-bone COMMAND --help` lists the options of a command. For research; not a medical device.",
        ]
    )


def _run(name: str, argv: Sequence[str]) -> int:
    if name not in _NAMES:
        similar = closest(name, _NAMES)
        do = "see `wds-bone --help`" if similar is None else f"use wds-bone {similar}"
        raise ConfigError(f"there is no command {name!r}", expected=", ".join(_NAMES), got=name, do=do)
    # Imported late: most commands import torch, which `wds-bone --help` must not wait for.
    module = import_module(f"wds_bone.{name.replace('-', '_')}")
    code: int = module.main(argv)
    return code


if __name__ == "__main__":
    sys.exit(main())
