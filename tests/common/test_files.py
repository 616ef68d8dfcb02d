import errno
import os
import sys
import warnings
from pathlib import Path

import pytest

from common.command_line import UserError
from common.files import lock, write_atomically


def test_writing_replaces_the_file_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new folder" / "file"
    write_atomically(path, "first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_folder_that_is_a_file_is_told_by_the_name_of_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match="can't write .*mine/weights.pt: .*; free some space, close the file in"):
        write_atomically(tmp_path / "mine" / "weights.pt", "new")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants /dev/full")
def test_failed_write_keeps_the_old_file_and_says_what_to_do(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    (tmp_path / "file.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match="can't write .*file: No space left on device; free some space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_lock_of_a_folder_is_held_once_and_is_free_again_afterwards(tmp_path):
    for _ in range(2):
        with lock(tmp_path / "run"):
            with pytest.raises(UserError) as failure, lock(tmp_path / "run"):
                pass
            # Nothing about the lock's file: who deletes it, lets a second run in beside the first.
            advice = "wait for it to finish or choose another folder"
            assert str(failure.value) == f"another process is using {tmp_path / 'run'}: {advice}"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_lock_can_be_taken_by_every_user_who_may_write_into_the_folder(tmp_path):
    before = os.umask(0o077)
    try:
        with lock(tmp_path):
            assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_file_system_without_locks_has_those_of_filelock_that_need_none(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def fail(*_):
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr(fcntl, "flock", fail)
    for _ in range(2):
        with warnings.catch_warnings(), lock(tmp_path):
            warnings.simplefilter("ignore")  # filelock tells of it
            with pytest.raises(UserError, match="another process is using"), lock(tmp_path):
                pass
