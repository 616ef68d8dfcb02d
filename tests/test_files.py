import pytest

from command_line import UserError
from files import archive, write_atomically


def test_writing_replaces_the_file_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new folder" / "file"
    write_atomically(path, "first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_keeps_the_old_file_and_says_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="can't write .*file: No space left on device; make room"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_archive_moves_only_the_named_files_and_never_over_others(tmp_path):
    for _ in range(2):
        for name in ("last.pt", "notes.txt"):
            (tmp_path / name).write_text("kept")
        archive(tmp_path, ["last.pt", "best.pt"])
    assert not (tmp_path / "last.pt").exists()
    assert (tmp_path / "notes.txt").exists()
    assert len(list((tmp_path / "archive").glob("*/last.pt"))) == 2
    assert archive(tmp_path, ["last.pt"]) is None
