"""What an ELF object file tells: bytes of code and of constants, and of its functions' frames."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import ToolError

__all__ = ["STACK_FLAG", "Object"]

# Has clang write every function's frame into the object file.
STACK_FLAG = "-fstack-size-section"

_ALLOCATED, _EXECUTED, _WRITTEN = 2, 4, 1
_SYMBOLS = 2
_NO_CALLS = b"_GLOBAL_OFFSET_TABLE_", b"__aeabi_unwind_cpp_pr0", b"__aeabi_unwind_cpp_pr1"
_X86 = (3, 62)  # processors whose calls push the address to return to
_RED_ZONE = {62: 128}


class Section(NamedTuple):
    name: bytes
    kind: int
    flags: int
    content: memoryview
    length: int
    link: int


class Object:
    """An object file.

    Raises
    ------
    ToolError
        If it is none.
    """

    def __init__(self, data: bytes):
        if data[:4] != b"\x7fELF":
            raise ToolError(
                "inspect: the compiler made no ELF object; give one that does with --cc"
            )
        self.wide, self.order = data[4] == 2, "<" if data[5] == 1 else ">"
        (self.machine,) = struct.unpack_from(f"{self.order}H", data, 0x12)
        self.sections = self._read(memoryview(data))

    def _read(self, data: memoryview) -> list[Section]:
        order = self.order
        if self.wide:
            start = struct.unpack_from(f"{order}Q", data, 0x28)[0]
            entry, count, names = struct.unpack_from(f"{order}HHH", data, 0x3A)
        else:
            start = struct.unpack_from(f"{order}I", data, 0x20)[0]
            entry, count, names = struct.unpack_from(f"{order}HHH", data, 0x2E)
        # name, type, flags, address, place, length, link
        head = f"{order}II4QI" if self.wide else f"{order}7I"
        rows = [struct.unpack_from(head, data, start + k * entry) for k in range(count)]
        text = data[rows[names][4] :]
        return [
            Section(_word(text, name), kind, flags, data[at : at + length], length, link)
            for name, kind, flags, _, at, length, link in rows
        ]

    def code_and_constants(self) -> tuple[int, int]:
        """Bytes of what is executed, and of what is loaded and not written; tables to unwind are neither."""
        code = constants = 0
        for s in self.sections:
            if not s.flags & _ALLOCATED or s.name.startswith((b".eh_frame", b".ARM.ex", b".note")):
                continue
            if s.flags & _EXECUTED:
                code += s.length
            elif not s.flags & _WRITTEN:
                constants += s.length
        return code, constants

    def frames(self) -> int | None:
        """Bytes of all its functions' frames together; None unless it was compiled with ``STACK_FLAG``.

        No function calls itself, so this is as much as a call may take.
        """
        found = [s.content for s in self.sections if s.name == b".stack_sizes"]
        if not found:
            return None
        word = 8 if self.wide else 4
        total = 0
        for content in found:
            place = 0
            while place < len(content):
                size, place = _leb128(content, place + word)
                total += size + word * (self.machine in _X86)
        return total

    @property
    def red_zone(self) -> int:
        """Bytes below the stack that the last function may use, which no compiler counts as its frame."""
        return _RED_ZONE.get(self.machine, 0)

    def calls_others(self) -> bool:
        """Whether it refers to functions of other files."""
        entry, at = ("IBBHQQ", 3) if self.wide else ("IIIBBH", 5)
        for s in self.sections:
            if s.kind != _SYMBOLS:
                continue
            names = self.sections[s.link].content
            for row in struct.iter_unpack(f"{self.order}{entry}", s.content):
                if row[at] == 0 and _word(names, row[0]) not in (b"", *_NO_CALLS):
                    return True
        return False


def _word(text: memoryview, start: int) -> bytes:
    return bytes(text[start : start + 256]).split(b"\0", 1)[0]


def _leb128(data: memoryview, place: int) -> tuple[int, int]:
    """(an unsigned number of seven bits a byte, where it ends)."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
