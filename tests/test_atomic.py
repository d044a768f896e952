import os

import pytest

from placeformer._atomic import atomic_file, atomic_folder


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
