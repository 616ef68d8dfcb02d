import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.command_line import UserError
from common.files import archive, only_one, write_atomically


def test_writing_replaces_the_file_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new folder" / "file"
    write_atomically(path, "first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants /dev/full")
def test_failed_write_keeps_the_old_file_and_says_what_to_do(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    (tmp_path / "file.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match="can't write .*file: No space left on device; make room"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_one_is_in_the_context_of_a_folder_and_the_next_one_waits_for_it(tmp_path):
    folder, inside = tmp_path / "run", []

    def enter(number):
        with only_one(folder, timeout=10):
            inside.append(number)
            time.sleep(0.05)
            inside.append(number)

    with ThreadPoolExecutor() as pool:
        list(pool.map(enter, range(3)))
    assert inside[::2] == inside[1::2]
    assert sorted(inside) == [0, 0, 1, 1, 2, 2]
    with (
        only_one(folder),
        pytest.raises(UserError, match="another process is at work in .*run: wait"),
        only_one(folder),
    ):
        pass


def test_archive_moves_only_the_named_files_and_never_over_others(tmp_path):
    for _ in range(2):
        for name in ("last.pt", "notes.txt"):
            (tmp_path / name).write_text("kept")
        archive(tmp_path, ["last.pt", "best.pt"])
    assert not (tmp_path / "last.pt").exists()
    assert (tmp_path / "notes.txt").exists()
    assert len(list((tmp_path / "archive").glob("*/last.pt"))) == 2
    assert archive(tmp_path, ["last.pt"]) is None
