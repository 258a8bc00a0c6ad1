"""Which processor code is made for: what LLVM finds, what the user says, and where nothing can be found."""

import pytest
from llvmlite import binding

from flatgrad.emit import host, native
from flatgrad.lower.machine import BASELINE, Machine

BOARD = "aarch64-unknown-linux-gnu"


class Features(dict):
    """As llvmlite gives them."""

    def flatten(self):
        return ",".join("-+"[has] + name for name, has in self.items())


@pytest.fixture
def found(monkeypatch):
    """Set what LLVM finds: found(triple, name, features); an exception is raised."""
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(native.sys.modules, "numba", raising=False)

    def features(given):
        if isinstance(given, Exception):
            raise given
        return given

    def set_to(triple, name, given):
        monkeypatch.setattr(binding, "get_process_triple", lambda: triple)
        monkeypatch.setattr(binding, "get_host_cpu_name", lambda: name)
        monkeypatch.setattr(binding, "get_host_cpu_features", lambda: features(given))
        native.detected.cache_clear()
        host._host.cache_clear()

    yield set_to
    native.detected.cache_clear()
    host._host.cache_clear()


def test_a_board_that_llvm_knows(found):
    found(BOARD, "cortex-a72", Features({"crc": True, "neon": True, "sve": False}))
    assert native.target() == ("cortex-a72", "+crc,+neon,-sve")
    assert host.host() == Machine(16, 32)


@pytest.mark.parametrize("features", [Features({"aes": False, "sve": False}), Features()])
def test_an_emulated_board_is_generic_whatever_the_host_shows(found, features):
    found(BOARD, "generic", features)
    assert native.target() == ("generic", "+fp-armv8,+neon")
    assert host.host() == Machine(16, 32)


def test_nothing_to_read_is_no_failure(found):
    found(BOARD, "generic", RuntimeError("failed to get host cpu features."))
    assert native.target() == ("generic", "+fp-armv8,+neon")
    found("x86_64-unknown-linux-gnu", "znver4", RuntimeError("failed to get host cpu features."))
    assert native.target() == ("generic", "")
    assert host.host() == BASELINE


def test_what_the_user_says_counts(found, monkeypatch):
    found(BOARD, "generic", Features())
    monkeypatch.setenv("NUMBA_CPU_NAME", "cortex-a72")
    assert native.target() == ("cortex-a72", "")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+neon,+crc")
    assert native.target() == ("cortex-a72", "+neon,+crc")
    monkeypatch.delenv("NUMBA_CPU_NAME")
    assert native.target() == ("generic", "+neon,+crc")
