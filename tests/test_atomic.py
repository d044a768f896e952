import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from placeformer import _atomic
from placeformer._atomic import MARK, atomic_file, atomic_folder, replaced_folder


def test_a_file_takes_the_place_of_another_when_it_is_whole(tmp_path):
    file = tmp_path / "a.txt"
    for content in ("first", "second"):
        with atomic_file(file) as temporary:
            temporary.write_text(content)
            assert file.exists() == (content == "second")
        assert file.read_text() == content
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_file(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_is_renamed_is_on_the_disk_before(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (calls.append("fsync"), fsync(n))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b))[1])
    with atomic_file(tmp_path / "a") as file:
        file.write_text("x")
    assert calls == ["fsync", "rename", "fsync"]  # the file, then its name in the folder
    calls.clear()
    with atomic_folder(tmp_path / "b", publish=os.replace) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "c").write_text("x")
    assert calls == ["fsync", "fsync", "rename", "fsync"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "net"
    with pytest.raises(ValueError, match="no"), atomic_folder(target) as new:
        (new / "a").write_text("half")
        raise ValueError("no")
    assert os.listdir(tmp_path) == []
    with atomic_folder(target) as new:
        (new / "a").write_text("whole")
        assert not target.exists()
    assert (target / "a").read_text() == "whole"
    with pytest.raises(OSError, match="not empty"), atomic_folder(target) as new:
        (new / "a").write_text("other")
    assert (target / "a").read_text() == "whole"
    assert os.listdir(tmp_path) == ["net"]


KILLED = """
import os, signal, sys
from pathlib import Path
from placeformer import _atomic
target, point = Path(sys.argv[1]), int(sys.argv[2])
rename, calls = os.rename, []
def counted(a, b):
    if len(calls) == point: os.kill(os.getpid(), signal.SIGKILL)
    calls.append(1)
    rename(a, b)
os.rename = counted
with _atomic.replaced_folder(target, "page".__eq__, "page") as new:
    (new / "page").write_text("new")
    if point < 0: os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(target, point):
    """Replace a folder in a process that is killed before its n-th rename, -1 while it writes."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(target), str(point)], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", [-1, 0, 1, 2])
def test_what_a_killed_process_left_is_cleaned_and_nothing_of_the_users_is_lost(tmp_path, point):
    target = tmp_path / "out"
    target.mkdir()
    (target / "page").write_text("old")
    (target / "mine").write_text("mine")
    killed(target, point)
    left = [name for name in os.listdir(tmp_path) if not name.endswith(".lock")]
    assert len(left) == (2 if point < 1 else 3 - (point == 1))
    with pytest.raises(KeyError), replaced_folder(target, "page".__eq__, "page"):
        raise KeyError
    assert sorted(os.listdir(target)) == ["mine", "page"]
    assert (target / "page").read_text() == ("new" if point == 2 else "old")
    assert os.listdir(tmp_path) == ["out"]


def test_partial_folders_of_others_stay(tmp_path):
    """Those that a living process holds, and those without our mark."""
    held, theirs = tmp_path / ".a.txt.0123abcd.tmp", tmp_path / ".a.txt.4567cdef.tmp"
    for folder in (held, theirs, tmp_path / ".a.txt.89abcdef.tmp"):
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    (tmp_path / ".a.txt.89abcdef.tmp" / MARK).touch()  # left behind
    with FileLock(held / MARK), atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert sorted(os.listdir(tmp_path)) == [held.name, theirs.name, "a.txt"]


def test_a_partial_folder_that_is_always_removed_by_others_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(_atomic, "marked", lambda folder, stack: False)
    with (
        pytest.raises(BlockingIOError, match="other processes removed the partial folder 10 times"),
        atomic_file(tmp_path / "a.txt"),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_failure_removes_the_folders_it_has_made(tmp_path):
    with pytest.raises(KeyError), atomic_folder(tmp_path / "a" / "b" / "c"):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_a_folder_we_are_in_is_replaced_file_by_file_the_last_one_last(tmp_path, monkeypatch):
    (tmp_path / "page").write_text("old")
    monkeypatch.chdir(tmp_path)
    replaced, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (replaced.append(b.name), replace(a, b)))
    with replaced_folder(tmp_path, {"a", "page", "z"}.__contains__, "page") as new:
        for name in ("page", "a", "z"):
            (new / name).write_text("new")
    assert replaced[-1] == "page" and sorted(replaced) == ["a", "page", "z"]
    assert sorted(os.listdir(tmp_path)) == ["a", "page", "z"]


@pytest.mark.parametrize("when", ["before the lock", "after the lock"])
def test_a_folder_that_another_process_takes_for_a_leftover_is_made_again(
    tmp_path, monkeypatch, when
):
    lock, taken = FileLock.acquire, []

    def acquire(self, *args, **options):
        mark = Path(self.lock_file)
        if mark.name == MARK and not taken:
            taken.append(mark.parent)
            if when == "before the lock":
                shutil.rmtree(mark.parent)
            else:
                got = lock(self, *args, **options)
                shutil.rmtree(mark.parent)
                return got
        return lock(self, *args, **options)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert len(taken) == 1 and os.listdir(tmp_path) == ["a.txt"]


def test_of_several_that_replace_a_folder_at_once_none_fails(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_text("mine")

    def replaced(number):
        with replaced_folder(target, {"a", "page"}.__contains__, "page") as new:
            for name in ("a", "page"):
                (new / name).write_text(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(replaced, range(40)))  # raises what any of them raises
    assert sorted(os.listdir(target)) == ["a", "mine", "page"]
    assert (target / "a").read_text() == (target / "page").read_text()
    assert os.listdir(tmp_path) == ["out"]
