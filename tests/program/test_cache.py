"""The disk cache: what is on disk is used if it is whole, and never trusted otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest

from flatgrad.errors import ArgumentError
from flatgrad.program import cache as module

numba = pytest.importorskip("numba")

SIGNATURE = (numba.float64[::1],)


def source(factor: float = 3.0) -> str:
    return textwrap.dedent(
        f"""
        from numba import njit


        @njit(cache=True, error_model="numpy")
        def kernel(x):
            total = 0.0
            for i in range(x.size):
                total += {factor!r} * x[i]
            return total
        """
    )


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """A cache of its own, and no trace of the programs loaded before."""
    path = tmp_path / "cache"
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(path))
    monkeypatch.setattr(module.cache, "_warned", set())
    monkeypatch.setattr(module.cache, "enabled", True)
    monkeypatch.setattr(module.cache, "_limit", module.DEFAULT_LIMIT)
    before = set(sys.modules)
    yield path
    for name in set(sys.modules) - before:
        if name.startswith("probe_"):
            module.unload(sys.modules[name])


def compiled(factor: float = 3.0):
    """(The kernel of [1, 2], whether it came from disk), as a fresh process would get them."""
    for name in [n for n in sys.modules if n.startswith("probe_")]:
        module.unload(sys.modules[name])
    kernel, hit = module.compile_function(source(factor), "probe", "kernel", SIGNATURE)
    return kernel(np.array([1.0, 2.0])), hit


def files(directory, suffix: str) -> list:
    return sorted(f for f in directory.rglob("*") if f.suffix == suffix)


def test_a_second_load_reads_the_first_ones_code(directory):
    assert compiled() == (9.0, False)
    assert [len(files(directory, s)) for s in (".py", ".json", ".nbi", ".nbc")] == [1, 1, 1, 1]
    assert compiled() == (9.0, True)


def test_another_text_is_another_entry(directory):
    assert compiled(3.0) == (9.0, False)
    assert compiled(5.0) == (15.0, False)
    assert compiled(3.0) == (9.0, True)
    assert len(module.cache.entries()) == 2


def test_the_same_text_is_the_same_module():
    assert module.load_module(source(), "probe") is module.load_module(source(), "probe")


def test_the_next_process_does_not_compile(directory):
    assert compiled() == (9.0, False)
    assert in_process(directory) == "9.0 True 1 0"


PROGRAM = f"""
import numba, numpy
kernel, hit = compile_function({source()!r}, "probe", "kernel", (numba.float64[::1],))
stats = kernel.stats
print(kernel(numpy.array([1.0, 2.0])), hit, sum(stats.cache_hits.values()),
      sum(stats.cache_misses.values()))
"""


def in_process(directory, **environment) -> str:
    """What a fresh process says: value, hit, and Numba's own counts of hits and misses."""
    return run_python(PROGRAM, directory, **environment)


def run_python(program: str, directory, **environment) -> str:
    return start(directory, program, **environment).communicate(timeout=120)[0].strip()


def start(directory, program: str = PROGRAM, **environment) -> subprocess.Popen:
    program = f"""
import warnings
warnings.simplefilter("error")
from flatgrad.program.cache import compile_function
{program}"""
    environment = {**os.environ, "FLATGRAD_CACHE_DIR": str(directory), **environment}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_racing_processes_all_get_the_right_answer(directory):
    racers = [start(directory) for _ in range(3)]
    said = [racer.communicate(timeout=180)[0].split() for racer in racers]
    assert [words[0] for words in said] == ["9.0"] * 3
    assert all(racer.returncode == 0 for racer in racers)
    # However they collided, what they leave is whole, or is found out and made whole at once.
    assert compiled()[0] == 9.0
    assert compiled() == (9.0, True)


def test_deleting_under_a_running_reader_is_harmless(directory):
    compiled()
    racers = [start(directory) for _ in range(2)]
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        module.cache.clear()
    assert [racer.communicate(timeout=180)[0].split()[0] for racer in racers] == ["9.0"] * 2


# -- damage ---------------------------------------------------------------------------------------


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


def empty(data: bytes) -> bytes:
    return b""


def foreign(data: bytes) -> bytes:
    return b"raise SystemExit('a foreign file was executed')\n"


@pytest.mark.parametrize("suffix", [".py", ".json", ".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [truncate, flip, empty, foreign])
def test_a_damaged_file_is_rebuilt(directory, suffix, damage):
    compiled()
    (file,) = files(directory, suffix)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert compiled() == (9.0, False)
    assert compiled() == (9.0, True)
    if suffix == ".py":
        assert file.read_bytes() == whole


@pytest.mark.parametrize("suffix", [".py", ".json", ".nbi", ".nbc"])
def test_a_missing_file_is_rebuilt(directory, suffix):
    compiled()
    files(directory, suffix)[0].unlink()
    assert compiled() == (9.0, False)
    assert compiled() == (9.0, True)


def test_an_index_that_no_checksum_vouches_for_is_not_unpickled(directory, tmp_path):
    """A pickle that would run a command on load is deleted unread."""
    compiled()
    (index,) = files(directory, ".nbi")
    witness = tmp_path / "witness"
    index.write_bytes(b"cos\nsystem\n(S'touch " + str(witness).encode() + b"'\ntR.")
    assert compiled() == (9.0, False)
    assert not witness.exists()


def test_machine_code_numba_cannot_read_is_rebuilt_even_with_a_good_checksum(directory):
    compiled()
    (code,) = files(directory, ".nbc")
    code.write_bytes(b"not a pickle")
    loaded = next(m for n, m in sys.modules.items() if n.startswith("probe_"))
    module.seal(loaded)
    assert compiled() == (9.0, False)
    assert compiled() == (9.0, False)  # the damaged entry was deleted, and is compiled anew
    assert compiled() == (9.0, True)


def test_a_directory_in_the_programs_place_is_survived(directory):
    compiled()
    (file,) = files(directory, ".py")
    file.unlink()
    file.mkdir()
    with pytest.warns(RuntimeWarning, match="is not used"):
        assert compiled() == (9.0, False)


# -- the directory --------------------------------------------------------------------------------

posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")


@posix
def test_directory_and_files_are_private(directory):
    compiled()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "__pycache__").stat().st_mode & 0o077 == 0
    assert files(directory, ".py")[0].stat().st_mode & 0o077 == 0


@posix
@pytest.mark.parametrize("where", [".", "__pycache__"])
def test_a_directory_others_can_write_is_refused(directory, where):
    compiled()
    (directory / where).chmod(0o777)
    with pytest.warns(RuntimeWarning, match="written by others"):
        assert compiled() == (9.0, False)
    assert compiled() == (9.0, False)  # and no second warning


@posix
def test_a_directory_of_another_user_is_refused(directory, monkeypatch):
    compiled()
    monkeypatch.setattr(os, "getuid", lambda: directory.stat().st_uid + 1)
    with pytest.warns(RuntimeWarning, match="belongs to user"):
        assert compiled() == (9.0, False)


def test_a_read_only_directory_still_compiles(directory, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(module.os, "open", refuse)
    with pytest.warns(RuntimeWarning, match="Read-only"):
        assert compiled() == (9.0, False)
    assert compiled() == (9.0, False)
    assert module.cache.entries() == []


@posix
def test_object_code_is_read_from_a_read_only_directory(directory, monkeypatch):
    file = module.object_file("text", "native")
    module.write_object(file, b"code")
    access = os.access

    def sealed(path, mode, **kwargs):
        return not mode & os.W_OK and access(path, mode, **kwargs)

    monkeypatch.setattr(module.os, "access", sealed)
    monkeypatch.setattr(
        module, "_write", lambda *args: (_ for _ in ()).throw(OSError(30, "Read-only"))
    )
    assert module.object_file("text", "native") == file
    assert module.read_object(file) == b"code"
    other = module.object_file("another text", "native")
    assert module.read_object(other) is None
    with pytest.warns(RuntimeWarning, match="Read-only"):
        module.write_object(other, b"code")
    module.cache._warned.clear()
    directory.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="written by others"):
        assert module.object_file("text", "native") is None


def test_a_path_below_a_file_still_compiles(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning, match="is not used"):
        assert compiled() == (9.0, False)


def test_a_full_disk_while_numba_saves_still_compiles(directory, monkeypatch):
    from numba.core.caching import IndexDataCacheFile

    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_save_data", refuse)
    with pytest.warns(RuntimeWarning, match="No space left"):
        assert compiled() == (9.0, False)


def test_disabled_compiles_in_memory(directory):
    module.cache.enabled = False
    assert compiled() == (9.0, False)
    assert not directory.exists()


def test_numbas_own_cache_directory_is_followed(directory, tmp_path):
    elsewhere = str(tmp_path / "numba")
    assert in_process(directory, NUMBA_CACHE_DIR=elsewhere) == "9.0 False 0 1"
    assert in_process(directory, NUMBA_CACHE_DIR=elsewhere) == "9.0 True 1 0"
    (code,) = files(tmp_path / "numba", ".nbc")
    code.write_bytes(flip(code.read_bytes()))
    assert in_process(directory, NUMBA_CACHE_DIR=elsewhere) == "9.0 False 0 1"


def test_programs_run_as_python_without_the_compiler(directory):
    program = "kernel, hit = compile_function({!r}, 'probe', 'kernel', ()); print(kernel, hit)"
    said = run_python(program.format(source()), directory, NUMBA_DISABLE_JIT="1")
    assert said.startswith("<function kernel") and said.endswith("False")


# -- size -----------------------------------------------------------------------------------------


def test_size_counts_numbas_files(directory):
    compiled()
    on_disk = sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
    assert module.cache.size() == on_disk
    assert on_disk > 1000


def test_the_least_recently_used_goes_first(directory):
    for factor in (2.0, 3.0, 5.0):
        compiled(factor)
        age_all(directory)
    compiled(2.0)  # now the most recently used
    age_all(directory)
    one = module.cache.size() // 3
    module.cache.limit = 2 * one + one // 2
    assert len(module.cache.entries()) == 2
    assert compiled(3.0) == (9.0, False)  # it was the oldest
    assert compiled(2.0)[1]


def age_all(directory) -> None:
    """Make every entry ten seconds older, instead of sleeping."""
    for file in files(directory, ".json"):
        status = file.stat()
        os.utime(file, (status.st_atime - 10, status.st_mtime - 10))


def test_the_limit_holds_when_a_program_is_added(directory):
    compiled(2.0)
    module.cache.limit = module.cache.size() * 3 // 2
    age_all(directory)
    compiled(3.0)
    assert module.cache.size() <= module.cache.limit
    assert compiled(3.0)[1]


def test_a_limit_of_zero_keeps_nothing(directory):
    module.cache.limit = 0
    assert compiled() == (9.0, False)
    assert module.cache.entries() == []
    assert compiled() == (9.0, False)


@pytest.mark.parametrize("limit", [-1, 1.5, "1 GB", True])
def test_a_limit_is_a_number_of_bytes(limit):
    with pytest.raises(ArgumentError, match="number of bytes"):
        module.cache.limit = limit


def test_clear_deletes_ours_and_nothing_else(directory):
    compiled()
    mine = directory / "notes.txt"
    mine.write_text("the user's own")
    module.cache.clear()
    assert module.cache.entries() == []
    assert [f for f in directory.rglob("*") if f.is_file()] == [mine]
    assert compiled() == (9.0, False)


def test_half_written_files_are_left_alone_until_they_are_old(directory):
    compiled()
    name = module.cache.entries()[0].name
    fresh = directory / f"{name}.py.1.1.tmp"
    fresh.write_text("half")
    module.cache.clear()
    assert fresh.exists()
    os.utime(fresh, (0, 0))
    module.cache.clear()
    assert not fresh.exists()


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("FLATGRAD_CACHE_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module.cache.path == tmp_path / "flatgrad"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert module.cache.path == tmp_path / ".cache" / "flatgrad"
    assert "flatgrad cache at" in repr(module.cache)


def test_a_program_with_an_error_raises_it(directory):
    text = source().replace("x.size", "x.no_such_thing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(numba.core.errors.TypingError, match="no_such_thing"):
            module.compile_function(text, "probe", "kernel", SIGNATURE)
