"""The parser, and what becomes of errors: one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys

import flatgrad

from ..errors import FlatgradError
from .screen import Screen, UsageError

__all__ = ["FAILED", "FINE", "INTERRUPTED", "MISUSED", "main"]

FINE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

# The module of each command, which is imported when it is asked for, and what it is for.
COMMANDS = {
    "export": ("exporting", "write a function as C99, with header, self-test and loader"),
    "inspect": ("inspection", "how much RAM and flash functions need on a board"),
    "bench": ("bench", "time a function's calls, against a deadline"),
    "doctor": ("doctor", "check this machine: versions, processor, cache, self-test, speed"),
    "warmup": ("warmup", "fill a cache that can be copied to boards of the same kind"),
}


class _Parser(argparse.ArgumentParser):
    """One whose errors are exceptions, so that they look like all others."""

    def error(self, message: str):
        raise UsageError(f"{message}; see {self.prog} --help")


def _formatter(prog: str):
    columns = os.environ.get("COLUMNS", "")
    width = min(80, int(columns)) if columns.isdigit() else 80
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=18, width=width)


def _module(command: str):
    return importlib.import_module(f"{__package__}.{COMMANDS[command][0]}")


def parser(argv: list[str]) -> argparse.ArgumentParser:
    """The parser of a command line; of the commands, only the one that is asked for is a whole one."""
    asked = next((word for word in argv if not word.startswith("-")), None)
    top = _Parser(
        "flatgrad",
        description="Gradients compiled for small computers.",
        epilog="Exit codes: 0 fine, 1 it failed or missed its aim, 2 wrong use.",
        formatter_class=_formatter,
    )
    top.add_argument("--version", action="version", version=f"flatgrad {flatgrad.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, about) in COMMANDS.items():
        if name != asked:
            commands.add_parser(name, help=about)
            continue
        module = _module(name)
        command = commands.add_parser(
            name,
            help=about,
            allow_abbrev=False,
            description=module.DESCRIPTION,
            usage=f"flatgrad {name} {module.USAGE}",
            formatter_class=_formatter,
        )
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--traceback", action="store_true", help="errors with traceback")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command line.

    Parameters
    ----------
    argv : list of str, optional
        Without the program's name; ``sys.argv``'s if not given.

    Returns
    -------
    int
        0 fine, 1 it failed or missed its aim, 2 wrong use, 130 interrupted.

    Examples
    --------
    >>> from flatgrad.cli import main
    >>> main(["--version"])         # doctest: +ELLIPSIS
    flatgrad 0...
    0
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    # argparse would mix the words behind -- with ours.
    behind = argv[argv.index("--") + 1 :] if "--" in argv else []
    ours = argv[: argv.index("--")] if "--" in argv else argv
    screen = Screen("--json" in ours)
    try:
        # What the user's code prints must not get between the braces.
        with contextlib.redirect_stdout(sys.stderr) if screen.json else contextlib.nullcontext():
            options = parser(ours).parse_args(ours)
            options.behind = behind
            if behind and options.command != "warmup":
                raise UsageError(
                    f"{options.command}: nothing can follow --, got {' '.join(behind)}"
                )
            return _module(options.command).run(options, screen)
    except SystemExit as end:  # --help, --version; or the user's script
        return _code(end)
    except KeyboardInterrupt:
        return screen.fail("interrupted", "KeyboardInterrupt", INTERRUPTED)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # for the interpreter's last flush
        return FINE
    except UsageError as error:
        return screen.fail(str(error), "UsageError", MISUSED)
    except Exception as error:
        if "--traceback" in ours:
            import traceback

            traceback.print_exc()
        return screen.fail(_sentence(error), type(error).__name__, FAILED)


def _code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or FINE
    print(end.code, file=sys.stderr)
    return FAILED


def _sentence(error: Exception) -> str:
    """An error as one line. Those of flatgrad say what to do; others at least what they are."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    if not isinstance(error, FlatgradError | OSError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if len(lines) > 1:
        text = f"{text.rstrip(':')}: {lines[1]}" if text.endswith(":") else text
    if len(lines) > 1 or not isinstance(error, FlatgradError | OSError):
        text += " (--traceback says more)"
    return text
