"""``flatgrad inspect``: the RAM and flash that functions need on a target."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .exporting import export_options, exported, targets
from .given import add_function, given, need_example
from .memory import add_memory, fits, measured, show_memory
from .screen import Progress, Screen, UsageError

DESCRIPTION = "RAM and flash of each FUNCTION (module.py:f) on a board; exit 1 if too much."
USAGE = "[--target T] [--max-ram 64K] [options] FUNCTION..."


def add_arguments(parser) -> None:
    add_function(parser, many=True)
    add_memory(parser)


def run(options, screen: Screen) -> int:
    if options.target == "list":
        return targets(screen)
    how = export_options(options)
    if not options.functions:
        raise UsageError("a function is required: flatgrad inspect module.py:f")
    limits = {"ram": how["max_ram"], "flash": how["max_flash"]}
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="flatgrad-inspect-") as scratch,
        Progress("inspect", len(options.functions)) as progress,
    ):
        for k, text in enumerate(options.functions):
            options.function = text
            g = need_example(given(options))
            made = exported(g, **how, path=Path(scratch) / str(k))
            rows.append((g.label, measured(made, options.cc)))
            progress.step(1, text)
    too_large = {label: names for label, figures in rows if (names := fits(figures, limits))}
    screen.result(
        {
            "target": options.target,
            "programs": [{"function": label, **figures} for label, figures in rows],
            "limits": limits,
            "too_large": too_large,
        }
    )
    show_memory(rows, options.target, limits, screen)
    return 1 if too_large else 0
