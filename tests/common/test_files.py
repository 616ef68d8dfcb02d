import errno
from pathlib import Path

import pytest

from common.command_line import UserError
from common.files import archive, lock, write_atomically


def test_writing_replaces_the_file_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new folder" / "file"
    write_atomically(path, "first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_folder_that_is_a_file_is_told_by_the_name_of_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match="can't write .*mine/weights.pt: .*; make room there or choose another folder"):
        write_atomically(tmp_path / "mine" / "weights.pt", "new")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants /dev/full")
def test_failed_write_keeps_the_old_file_and_says_what_to_do(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    (tmp_path / "file.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match="can't write .*file: No space left on device; make room"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_lock_of_a_folder_is_held_once_and_is_free_again_afterwards(tmp_path):
    message = "another process is at work in .*run: wait.*none is alive, delete .*lock"
    for _ in range(2):
        with lock(tmp_path / "run"), pytest.raises(UserError, match=message):
            lock(tmp_path / "run")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_no_dead_end_and_is_told(tmp_path, monkeypatch, capsys, number):
    fcntl = pytest.importorskip("fcntl")

    def fail(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", fail)
    for _ in range(2):  # the second time the lock's file is there already
        with lock(tmp_path / "run"), lock(tmp_path / "run"):
            assert "run has no locks: nothing keeps a second run out of it" in capsys.readouterr().err
    monkeypatch.undo()
    with lock(tmp_path / "run"), pytest.raises(UserError, match="another process is at work"):
        lock(tmp_path / "run")


def test_archive_moves_only_the_named_files_and_never_over_others(tmp_path):
    for _ in range(2):
        for name in ("last.pt", "notes.txt"):
            (tmp_path / name).write_text("kept")
        archive(tmp_path, ["last.pt", "best.pt"])
    assert not (tmp_path / "last.pt").exists()
    assert (tmp_path / "notes.txt").exists()
    assert len(list((tmp_path / "archive").glob("*/last.pt"))) == 2
    assert archive(tmp_path, ["last.pt"]) is None
