"""Disks that are full, read-only or rotten, and writers that died: the old checkpoint is there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import CheckpointError, CheckpointWarning, MissingCheckpointError
from flatgrad.io import durable

pytest.importorskip("safetensors")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


def names(path) -> list[str]:
    return sorted(f.name for f in path.parent.iterdir())


def older(path, k=1):
    return path.with_name(f"{path.name}.{k}")


# -- the order of things --------------------------------------------------------------------------


def test_data_is_on_the_disk_before_it_has_the_name(path, monkeypatch):
    fg.io.save(path, 1)
    calls = []

    def watch(name):
        function = getattr(os, name)

        def call(*args, **kwargs):
            what = args[0]
            if name == "fsync":
                what = "directory" if os.path.isdir(f"/proc/self/fd/{args[0]}") else "file"
            calls.append((name, what))
            return function(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("write", "fsync", "link", "replace"):
        watch(name)
    fg.io.save(path, 2)
    monkeypatch.undo()
    kinds = [name for name, _ in calls]
    assert kinds == ["write", "fsync", "link", "replace", "replace", "fsync"]
    assert [what for name, what in calls if name == "fsync"] == ["file", "directory"]


def test_older_ones_are_kept(path):
    for value in range(6):
        fg.io.save(path, value, keep=3)
    assert [fg.io.load(p) for p in (path, older(path, 1), older(path, 2), older(path, 3))] == [
        5,
        4,
        3,
        2,
    ]
    assert len(names(path)) == 4
    fg.io.save(path, 6, keep=0)
    assert fg.io.load(path) == 6 and fg.io.load(older(path)) == 4


def test_without_hard_links(path, monkeypatch):
    def refused(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for value in range(3):
        fg.io.save(path, value)
    assert (fg.io.load(path), fg.io.load(older(path))) == (2, 1)
    os.unlink(path)  # as after a kill between the two renamings
    with pytest.warns(CheckpointWarning, match="No such file"):
        assert fg.io.load(path) == 1


def test_links_and_modes_stay(path, tmp_path):
    target = tmp_path / "card"
    target.mkdir()
    path.symlink_to(target / "real.safetensors")
    fg.io.save(path, 1)
    (target / "real.safetensors").chmod(0o640)
    fg.io.save(path, 2)
    assert path.is_symlink() and fg.io.load(path) == 2
    assert (target / "real.safetensors").stat().st_mode & 0o777 == 0o640


def test_a_relative_path(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    fg.io.save("here", 1)
    fg.io.save("here", 2)
    assert fg.io.load("here") == 2 and names(path) == ["here", "here.1"]


# -- damage ---------------------------------------------------------------------------------------


def small(path) -> bytes:
    fg.io.save(path, {"w": fg.tensor([1.5, 2.5]), "lr": 0.1}, metadata={"note": "abc"})
    return path.read_bytes()


def test_every_changed_bit_is_noticed(path):
    whole = small(path)
    for k in range(len(whole)):
        torn = bytearray(whole)
        torn[k] ^= 1 << (k % 8)
        path.write_bytes(torn)
        with pytest.raises(CheckpointError, match="damaged"):
            fg.io.load(path)


def test_every_torn_length_is_noticed(path):
    whole = small(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            fg.io.load(path)
        path.write_bytes(whole[:length] + bytes(len(whole) - length))  # allocated, never written
        if whole[:length] + bytes(len(whole) - length) != whole:
            with pytest.raises(CheckpointError, match="damaged"):
                fg.io.load(path)


def test_the_last_good_one_is_loaded_with_a_warning(path):
    for value in range(3):
        fg.io.save(path, value, keep=2)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(CheckpointWarning) as caught:
        assert fg.io.load(path) == 1
    text = str(caught[0].message)
    assert f"{path} is damaged" in text and text.endswith(f"instead: {older(path)}")
    assert caught[0].filename == __file__
    with pytest.raises(CheckpointError, match="strict=True"):
        fg.io.load(path, strict=True)
    older(path).write_bytes(b"")
    with pytest.warns(CheckpointWarning, match="it is empty"):
        assert fg.io.load(path) == 0
    older(path, 2).unlink()
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        fg.io.load(path)


def test_a_damaged_one_does_not_take_the_good_ones_place(path):
    fg.io.save(path, 1)
    fg.io.save(path, 2)
    path.write_bytes(b"rotten")
    fg.io.save(path, 3)
    assert (fg.io.load(path), fg.io.load(older(path))) == (3, 1)


def test_a_bad_sector_is_damage_and_not_the_end(path, monkeypatch):
    fg.io.save(path, 1)
    fg.io.save(path, 2)
    read = durable.read

    def failing(name):
        if name == str(path):
            raise OSError(errno.EIO, "Input/output error")
        return read(name)

    monkeypatch.setattr(durable, "read", failing)
    with pytest.warns(CheckpointWarning, match="Input/output error"):
        assert fg.io.load(path) == 1
    fg.io.save(path, 3)
    monkeypatch.undo()
    assert (fg.io.load(path), fg.io.load(older(path))) == (3, 1)


def test_a_gap_that_a_killed_writer_left(path):
    for value in range(4):
        fg.io.save(path, value, keep=3)
    older(path, 1).unlink()
    path.unlink()
    with pytest.warns(CheckpointWarning):
        assert fg.io.load(path) == 1


def test_no_checkpoint_at_all(path):
    with pytest.raises(MissingCheckpointError, match="there is no checkpoint") as caught:
        fg.io.load(path)
    assert isinstance(caught.value, FileNotFoundError) and caught.value.errno == errno.ENOENT
    with pytest.raises(CheckpointError, match=r"read_metadata: .* could not be read"):
        fg.io.read_metadata(path)


# -- what the system refuses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "number", "words"),
    [
        ("write", errno.ENOSPC, r"[Nn]o space.*bytes are needed.*is unchanged"),
        ("fsync", errno.EIO, r"error.*is unchanged"),
        ("open", errno.EROFS, r"[Rr]ead-only.*choose a directory"),
        ("open", errno.EACCES, r"[Pp]ermission denied.*choose a directory"),
        ("replace", errno.EACCES, r"[Pp]ermission denied"),
    ],
)
def test_a_failing_call_keeps_the_old_and_leaves_nothing(path, monkeypatch, call, number, words):
    fg.io.save(path, 1)
    before = path.read_bytes()

    def refused(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refused)
    with pytest.raises(
        CheckpointError, match=rf"save: {path} could not be written: .*{words}"
    ) as caught:
        fg.io.save(path, 2)
    monkeypatch.undo()
    assert caught.value.errno == number and isinstance(caught.value, OSError)
    assert path.read_bytes() == before
    assert [n for n in names(path) if n != older(path).name] == [path.name]
    fg.io.save(path, 3)
    assert fg.io.load(path) == 3


def test_a_missing_directory(tmp_path):
    with pytest.raises(CheckpointError, match=r"make the directory .*nowhere first"):
        fg.io.save(tmp_path / "nowhere" / "x", 1)


def test_a_directory_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="could not be read"):
        fg.io.load(tmp_path)
    with pytest.raises(CheckpointError, match="could not be written"):
        fg.io.save(tmp_path, 1)


LIMITED = """
import resource, sys, flatgrad as fg
path = sys.argv[1]
fg.io.save(path, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    fg.io.save(path, fg.zeros(10_000))
except fg.errors.CheckpointError as error:
    print(error)
print(fg.io.load(path, strict=True))
"""


def test_a_file_that_may_not_grow_so_large(path):
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True
    )
    message, value = done.stdout.splitlines()
    assert "File too large" in message and "is unchanged" in message and value == "1"
    assert names(path) == [path.name, older(path).name] or names(path) == [path.name]


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 64 KB of its own."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(
            f"SKIPPED LOUDLY: no file system can be mounted here, so none was filled ({error})"
        )
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_disk_that_is_full(full_disk):
    path = full_disk / "run"
    fg.io.save(path, {"w": fg.ones(5_000)})
    for _ in range(3):
        with pytest.raises(CheckpointError, match=r"No space left.*is unchanged") as caught:
            fg.io.save(path, {"w": fg.zeros(12_000)})
        assert caught.value.errno == errno.ENOSPC
        assert fg.io.load(path, strict=True)["w"].sum().item() == 5_000
        assert [n for n in names(path) if ".tmp" in n] == []
    fg.io.save(path, {"w": fg.zeros(5_000)})
    assert fg.io.load(path, strict=True)["w"].sum().item() == 0


def test_a_read_only_file_system(full_disk):
    path = full_disk / "run"
    fg.io.save(path, 1)
    subprocess.run(["mount", "-o", "remount,ro", str(full_disk)], check=True)
    with pytest.raises(CheckpointError, match=r"Read-only file system.*choose a directory"):
        fg.io.save(path, 2)
    assert fg.io.load(path, strict=True) == 1


# -- temporaries ----------------------------------------------------------------------------------


def test_temporaries_of_the_dead_are_deleted_and_of_the_living_are_not(path):
    fcntl = pytest.importorskip("fcntl")
    marks = ("0123456789ab", "cdef01234567", "notes")
    dead, living, other = (path.with_name(f".{path.name}.{mark}.tmp") for mark in marks)
    for file in (dead, living, other):
        file.write_bytes(b"half")
    with open(living, "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        fg.io.save(path, 1)
    assert (dead.exists(), living.exists(), other.exists()) == (False, True, True)
    fg.io.save(path, 2)
    assert not living.exists()


def test_a_new_temporary_that_was_taken_for_left_over_is_made_again(path, monkeypatch):
    pytest.importorskip("fcntl")
    made, open_file = [], os.open

    def watched(name, *args, **kwargs):
        descriptor = open_file(name, *args, **kwargs)
        if str(name).endswith(".tmp"):
            made.append(name)
            if len(made) == 1:
                os.unlink(name)  # another process, before it is locked
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    fg.io.save(path, {"w": np.ones(3)})
    assert len(made) == 2 and names(path) == [path.name]


def test_interrupted_by_the_user(path, monkeypatch):
    fg.io.save(path, 1)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fg.io.save(path, 2)
    assert names(path) == [path.name] and fg.io.load(path) == 1
