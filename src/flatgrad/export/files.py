"""Writing an export's files: each whole or not at all, and nothing over what somebody else wrote."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ArgumentError

__all__ = ["merged", "write_all"]

# In every file that export writes; a file without it is somebody else's.
MARK = "Made by fg.export"


def write_all(folder: Path, texts: dict[str, str]) -> dict[str, Path]:
    """Write `texts` ({file name: text}) into `folder`, which is made if need be.

    Raises
    ------
    ArgumentError
        If one of the files is there and is not an export's. Nothing is written then.
    """
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(
            f"export: path must be a folder, and {folder} is a file; name another one"
        )
    for name in texts:
        present = folder / name
        if present.exists() and MARK not in _text(present):
            raise ArgumentError(
                f"export: {present} is there and was not made by fg.export; it stays as it is. Give path= "
                "another folder, or the function another name="
            )
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, text in texts.items():
        goal = folder / name
        beside = goal.with_name(f".{name}.{os.getpid()}")
        try:
            beside.write_text(text, encoding="ascii", newline="\n")
            os.replace(beside, goal)
        finally:
            beside.unlink(missing_ok=True)
        written[name] = goal
    return written


def merged(present: Path, head: str, name: str, part: str, marks: tuple[str, str]) -> str:
    """The text of a file that several exports share: `head`, and a part for each; `name`'s is `part`.

    marks : what begins and ends a line that the file's language skips.
    """
    before, after = marks
    first, last = f"{before} begin {name}{after}\n", f"{before} end {name}{after}\n"
    own = first + part.rstrip("\n") + "\n" + last
    text = _text(present) if present.exists() else head
    if MARK not in text:
        return head + "\n" + own  # somebody else's: write_all refuses
    start, end = text.find(first), text.find(last)
    if 0 <= start < end:
        return text[:start] + own + text[end + len(last) :]
    return text.rstrip("\n") + "\n\n" + own


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
