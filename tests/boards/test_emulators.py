"""The emulators and the probe, on a function whose memory and results are known by hand."""

import pytest
from tools.boards import emulate
from tools.boards.machines import BOARDS

from boards import known
from boards.emulated import board_named, seen

pytestmark = pytest.mark.boards

FRAME = 32  # bytes of saved registers and padding beside the local array


@pytest.mark.parametrize("name", BOARDS)
def test_stack_and_work_are_what_the_function_touches(tmp_path, name):
    known.write(tmp_path)
    sections, found = seen(tmp_path, "known", name, tmp_path / "build")
    assert found.calls == 2
    assert found.work == known.TOUCHED
    assert known.LOCAL <= found.stack <= known.LOCAL + FRAME
    assert 50 < sections["text"] < 500 and sections["data"] == sections["bss"] == 0


def test_bits_see_an_ulp_and_no_sign_of_a_nan(tmp_path):
    hashes = {}
    for last in ("3.0f", "3.0000002f", "0.0f / 0.0f", "-(0.0f / 0.0f)"):
        place = tmp_path / str(len(hashes))
        place.mkdir()
        known.write(place, last)
        made = emulate.build(place, "known", board_named("x86-64"), place)
        hashes[last] = emulate.run(made).bits
    assert hashes["3.0f"] != hashes["3.0000002f"] != hashes["0.0f / 0.0f"]
    assert hashes["0.0f / 0.0f"] == hashes["-(0.0f / 0.0f)"]


@pytest.mark.parametrize("name", ["a7", "arm1176", "m4f"])
def test_a_wrong_result_and_a_fault_fail(tmp_path, name):
    board = board_named(name)
    known.write(tmp_path)
    source = (tmp_path / "known.c").read_text()
    for wrong in ("0.2f * in", "*(volatile float *)0xE0000000u * in"):
        (tmp_path / "known.c").write_text(source.replace("0.1f * in", wrong))
        assert not emulate.run(emulate.build(tmp_path, "known", board, tmp_path)).passed
