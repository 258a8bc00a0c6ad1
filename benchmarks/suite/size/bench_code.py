"""Machine code: how many bytes, how many instructions, how much scratch memory."""

import re

import flatgrad as fg

from ..fused import CASES

SHOWN = ("cross_entropy", "layer_norm", "attention", "lstm")
INSTRUCTION = re.compile(r"^\t[a-z][a-z0-9.]*(\s|$)", re.MULTILINE)


def machine_code(program) -> tuple[int, int]:
    """(bytes, instructions) of a compiled function, without what Numba calls it through."""
    from llvmlite import binding

    library = program.cfunc._library
    sections = binding.ObjectFileRef.from_data(library._get_compiled_object()).sections()
    size = sum(s.size() for s in sections if s.is_text())
    return size, len(INSTRUCTION.findall(library.get_asm_str()))


class Code:
    params = (list(SHOWN),)
    param_names = ("program",)
    timeout = 60

    def setup(self, program):
        case = CASES[program]
        self.program = fg.compile(case.function, *case.arguments(*case.sizes[-1]))

    def track_bytes(self, program):
        return machine_code(self.program)[0]

    def track_instructions(self, program):
        return machine_code(self.program)[1]

    def track_arena(self, program):
        return self.program.arena

    track_bytes.unit = track_arena.unit = "bytes"
    track_instructions.unit = "instructions"
