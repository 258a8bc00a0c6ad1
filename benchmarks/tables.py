"""The one form in which every comparison script leaves its figures, beside the Markdown that it prints.

A script offers ``--json FILE`` and writes a list of rows, one a comparison::

    {"name": "LSTM, SGD", "peer_name": "JAX", "ours": 81.2, "peer": 96.1, "unit": "us",
     "ratio": 0.845, "target": 0.8}

``ratio`` is ours over the peer's, so **below 1 flatgrad is ahead**, whatever the script's own columns show.
``target`` is the largest ratio that the project aims for, or None where it has set none. A row is behind when
its ratio is above 1, or misses its target; ``report.py`` says first what is behind, of all scripts.
"""

from __future__ import annotations

import json
import math
from pathlib import Path


def row(name: str, peer_name: str, ours: float, peer: float, target=None, unit: str = "us") -> dict:
    """One comparison; smaller figures are better."""
    return {
        "name": name,
        "peer_name": peer_name,
        "ours": float(ours),
        "peer": float(peer),
        "unit": unit,
        "ratio": float(ours) / float(peer),
        "target": target,
    }


def misses(row: dict) -> bool:
    """Whether a row is above its target; never without one."""
    return row["target"] is not None and row["ratio"] > row["target"]


def is_behind(row: dict) -> bool:
    """Whether a row is behind the peer, or ahead of it and still short of its target."""
    return row["ratio"] > 1.0 or misses(row)


def geometric_mean(rows) -> float:
    """The geometric mean of the ratios; 1 of none."""
    logs = [math.log(r["ratio"]) for r in rows]
    return math.exp(sum(logs) / len(logs)) if logs else 1.0


def add_option(parser) -> None:
    """``--json FILE`` for a script's argparse parser."""
    parser.add_argument("--json", metavar="FILE", help="also write the comparisons to this file")


def write(file: str | None, rows: list[dict]) -> None:
    """Write the rows to a file, if there is one."""
    if file:
        Path(file).write_text(json.dumps(rows, indent=1) + "\n")


def read(file) -> list[dict]:
    """The rows that a script wrote."""
    return json.loads(Path(file).read_text())
