"""Run one of the commands: `wds-bone COMMAND`, `python -m wds_bone COMMAND`, or `python -m wds_bone.COMMAND`.

In: the words of the command line.
Out: an exit code.
Invariant: signals and lost output are answered before the module of the command, and thus torch, is imported.
"""

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from types import TracebackType
from typing import NoReturn

from wds_bone import __version__
from wds_bone.command_line import Command, run_command
from wds_bone.commands import COMMANDS
from wds_bone.config_file import closest
from wds_bone.errors import ConfigError
from wds_bone.redaction import redact

_COMMANDS = {command.name.removeprefix("wds-bone "): command for command in COMMANDS}
_PROGRAM = Command("wds-bone", "", "", "", prints_result=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names, and return its exit code; without arguments, print the help."""
    if argv is None:
        _set_up_process()
    words = list(sys.argv[1:] if argv is None else argv)
    command = _COMMANDS.get(words[0], _PROGRAM) if words else _PROGRAM
    return run_command(command, parse=lambda: _find_main(words), run=lambda run, _: run(words[1:]))


def start(name: str) -> NoReturn:
    """Run the command `name` as the program of this process."""
    _set_up_process()
    sys.exit(main([name, *sys.argv[1:]]))


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


def _find_main(words: Sequence[str]) -> Callable[[Sequence[str]], int | None]:
    """Return the function that runs the command, or that prints the help or the version."""
    if not words or words[0] in ("-h", "--help"):
        return lambda _: print(help_text())  # noqa: T201
    if words[0] == "--version":
        return lambda _: print(f"wds-bone {__version__}")  # noqa: T201
    if words[0] in _COMMANDS:
        # Imported late: most commands import torch, which `wds-bone --help` must not wait for.
        run: Callable[[Sequence[str]], int] = import_module(f"wds_bone.{words[0].replace('-', '_')}").main
        return run
    similar = closest(words[0], list(_COMMANDS))
    do = "see `wds-bone --help`" if similar is None else f"use wds-bone {similar}"
    raise ConfigError(f"there is no command {words[0]!r}", expected=", ".join(_COMMANDS), got=words[0], do=do)


def _set_up_process() -> None:
    """Let Ctrl-C end the process silently before a command answers it, and after; Python would show a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.excepthook = _print_traceback
    threading.excepthook = _print_traceback_of_thread


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a bug, without what is secret in URLs."""
    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)  # noqa: T201


def _print_traceback_of_thread(failure: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread that has ended with an error; `SystemExit` is none, as in Python."""
    if failure.exc_value is not None and not isinstance(failure.exc_value, SystemExit):
        _print_traceback(failure.exc_type, failure.exc_value, failure.exc_traceback)


if __name__ == "__main__":
    sys.exit(main())
