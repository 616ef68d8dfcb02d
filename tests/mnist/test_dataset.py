import contextlib
import errno
import functools
import gzip
import hashlib
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST, FashionMNIST

from common.command_line import UserError
from mnist.dataset import DATASETS, MD5, DatasetNotFound, choose_dataset, load_data
from mnist.synthetic import SyntheticMNIST
from training.config import TrainConfig


def load(name, data_dir, validation_size=200, **options):
    return load_data(TrainConfig(dataset=name, validation_size=validation_size), data_dir, **options)


def test_splits_are_disjoint_complete_and_the_same_every_time(data_dir):
    first, second = (load("synthetic", data_dir) for _ in range(2))
    whole = SyntheticMNIST(data_dir, train=True)
    for train, validation, expected in zip(
        first.train.tensors, first.validation.tensors, (whole.data, whole.targets), strict=True
    ):
        assert torch.equal(torch.cat([train, validation]), expected)
    assert [len(split) for split in (first.train, first.validation, first.test)] == [800, 200, 300]
    assert torch.equal(first.validation.tensors[0], second.validation.tensors[0])


def test_real_mnist_has_55000_5000_and_10000_images(mnist_dir):
    data = load("mnist", mnist_dir, 5000)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]
    assert data.description["md5"] == MD5
    assert data.test.tensors[1][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_device_that_fails_is_not_called_damaged_data(data_dir):
    with pytest.raises(Exception) as failure:
        load("synthetic", data_dir, 200, device="cuda:99")
    assert "damaged" not in str(failure.value)


def test_validation_split_that_leaves_no_training_image_is_refused(data_dir):
    with pytest.raises(UserError, match="--validation-size 1000 leaves none of 1000 images"):
        load("synthetic", data_dir, 1000)


def test_without_validation_images_all_are_trained_on(data_dir):
    data = load("synthetic", data_dir, 0)
    assert data.description["images"] == {"train": 1000, "validation": 0, "test": 300}
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1000, 0, 300]


@pytest.fixture
def mnist_server(data_dir, tmp_path, monkeypatch):
    """A local HTTP server of gzipped files in MNIST's format; torchvision's MNIST is pointed at it."""
    served = tmp_path / "served"
    served.mkdir()
    resources = []
    for name in MD5:
        content = (data_dir / "SyntheticMNIST" / "raw" / name).read_bytes()
        archive = gzip.compress(content)
        (served / f"{name}.gz").write_bytes(archive)
        resources.append((f"{name}.gz", hashlib.md5(archive).hexdigest()))
        monkeypatch.setitem(MD5, name, hashlib.md5(content).hexdigest())

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            server.requests.append(self.path)
            if server.is_another:
                self.wfile.write(b"220 mail.example.org\r\n")
            else:
                super().do_GET()

        def copyfile(self, source, outputfile):
            with contextlib.suppress(ConnectionError):  # of clients that have given up
                server.answer(self, source.read())

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=served))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(MNIST, "resources", resources)
    server.served, server.requests, server.hanging, server.is_another = served, [], threading.Event(), False
    server.answer = lambda handler, content: handler.wfile.write(content)
    yield server
    server.hanging.set()
    server.shutdown()
    server.server_close()


def test_mnist_is_downloaded_checked_and_unpacked(mnist_server, data, tmp_path):
    downloaded = load("mnist", tmp_path / "data")
    assert torch.equal(downloaded.train.tensors[0], data.train.tensors[0])
    assert torch.equal(downloaded.test.tensors[1], data.test.tensors[1])
    assert sorted(p.name for p in (tmp_path / "data" / "MNIST" / "raw").iterdir()) == sorted(MD5)

    mnist_server.shutdown()  # and from now on it needs no server
    assert torch.equal(load("mnist", tmp_path / "data").test.tensors[0], data.test.tensors[0])


def test_archives_put_there_by_hand_are_unpacked_without_a_download(mnist_server, data, tmp_path):
    leave(mnist_server)
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for archive in mnist_server.served.iterdir():
        shutil.copy(archive, raw)
    assert torch.equal(load("mnist", tmp_path / "data").train.tensors[0], data.train.tensors[0])


def refuse(server):
    for archive in server.served.iterdir():
        archive.unlink()


def send_a_page(server):
    (server.served / "t10k-labels-idx1-ubyte.gz").write_bytes(b"<html>Please log in to this network</html>")


def send_half(server):
    server.answer = lambda handler, content: handler.wfile.write(content[: len(content) // 2])


def hang(server):
    server.answer = lambda handler, content: server.hanging.wait(60)


def hang_halfway(server):
    def answer(handler, content):
        handler.wfile.write(content[: len(content) // 2])
        handler.wfile.flush()
        server.hanging.wait(60)

    server.answer = answer


def be_no_web_server(server):
    server.is_another = True


def leave(server):
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("fault", [refuse, send_a_page, send_half, hang, hang_halfway, be_no_web_server, leave])
def test_failed_download_says_where_the_files_go_and_leaves_no_data(mnist_server, tmp_path, monkeypatch, fault):
    monkeypatch.setattr("mnist.dataset.MIRROR_TIMEOUT", 0.2)
    fault(mnist_server)
    reason = "timed out" if fault in (hang, hang_halfway) else ""
    raw = tmp_path / "data" / "MNIST" / "raw"
    message = rf"{reason}.*: put its four files \(train-images.* or these with .gz\) into {raw}$"
    with pytest.raises(DatasetNotFound, match=message):
        load("mnist", tmp_path / "data")
    assert socket.getdefaulttimeout() is None  # as before, for whatever else this process does
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


def test_auto_is_mnist_where_it_can_be_had_and_else_synthetic_with_the_reason(mnist_server, tmp_path, capsys):
    assert choose_dataset("auto", tmp_path / "online") == ("mnist", "")
    leave(mnist_server)
    assert choose_dataset("auto", tmp_path / "online") == ("mnist", "")
    name, warning = choose_dataset("auto", tmp_path / "offline")
    assert name == "synthetic"
    assert "can't get the data set mnist" in warning
    assert "put its four files" in warning
    with pytest.raises(DatasetNotFound, match="can't get the data set mnist"):
        choose_dataset("mnist", tmp_path / "offline")
    assert "each mirror gets 20 s to answer" in capsys.readouterr().err


def test_data_set_of_torchvision_with_mnists_files_is_one_more_line(mnist_server, tmp_path, monkeypatch):
    class FashionMNIST(MNIST):
        pass

    monkeypatch.setitem(DATASETS, "fashion", FashionMNIST)
    assert choose_dataset("fashion", tmp_path) == ("fashion", "")
    data = load("fashion", tmp_path)
    assert data.description["name"] == "fashion"
    assert data.description["images"] == {"train": 800, "validation": 200, "test": 300}


def test_unknown_data_set_is_an_error_that_names_the_known_ones(tmp_path):
    with pytest.raises(
        UserError, match=f"no data set cifar in {tmp_path}: choose --dataset auto, mnist or synthetic, or make"
    ):
        choose_dataset("cifar", tmp_path)


def test_damaged_mnist_is_never_replaced_by_another_data_set(mnist_server, tmp_path):
    leave(mnist_server)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"<html>Please log in to this network</html>")
    with pytest.raises(
        UserError, match=r"train-images-idx3-ubyte in .*: damaged, or from another data set \(wrong MD5\); delete each"
    ):
        choose_dataset("auto", tmp_path)


def test_archives_that_the_user_made_are_unpacked_as_what_counts_is_in_them(mnist_server, data, tmp_path):
    load("mnist", tmp_path)
    leave(mnist_server)
    raw = tmp_path / "MNIST" / "raw"
    for number, file in enumerate(MD5):  # one stays unpacked
        if number:
            (raw / f"{file}.gz").write_bytes(gzip.compress((raw / file).read_bytes(), compresslevel=1, mtime=number))
            (raw / file).unlink()
    assert torch.equal(load("mnist", tmp_path).train.tensors[0], data.train.tensors[0])


def test_archives_in_a_folder_that_cannot_be_written_are_no_reason_for_synthetic_digits(
    mnist_server, tmp_path, monkeypatch
):
    def refuse_to_write(dir):
        raise OSError(errno.EROFS, "Read-only file system")

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    monkeypatch.setattr("mnist.dataset.TemporaryDirectory", refuse_to_write)
    message = rf"can't write {raw} \(Read-only file system\): make it writable, put the four unpacked files there"
    with pytest.raises(UserError, match=message):
        choose_dataset("auto", tmp_path)


def test_folder_in_messages_is_absolute(mnist_server, tmp_path, monkeypatch):
    leave(mnist_server)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetNotFound, match=f"into {tmp_path / 'data' / 'MNIST' / 'raw'}$"):
        choose_dataset("mnist", Path("data"))


def test_classes_of_mnist_and_synthetic_digits_are_the_digits_and_those_of_others_are_torchvisions(
    data, mnist_server, tmp_path, monkeypatch
):
    assert data.description["classes"] == list("0123456789")
    assert load("mnist", tmp_path).description["classes"] == list("0123456789")
    shutil.copytree(tmp_path / "MNIST", tmp_path / "FashionMNIST")
    monkeypatch.setitem(DATASETS, "fashion", FashionMNIST)
    assert load("fashion", tmp_path).description["classes"] == FashionMNIST.classes


BAD_ARCHIVES = {
    "cut": lambda archive: archive[:-1],
    "empty": lambda archive: b"",
    "a page": lambda archive: b"<html>Please log in to this network</html>",
    "of another data set": lambda archive: gzip.compress(b"other images"),
    "damaged": lambda archive: archive[:20] + bytes(byte ^ 0xFF for byte in archive[20:60]) + archive[60:],
}


@pytest.mark.parametrize("fault", BAD_ARCHIVES)
def test_archive_that_cannot_be_unpacked_is_named_and_does_not_stand_in_the_way_of_the_download(
    mnist_server, data, tmp_path, fault
):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    archive = mnist_server.served / "t10k-images-idx3-ubyte.gz"
    (raw / archive.name).write_bytes(BAD_ARCHIVES[fault](archive.read_bytes()))
    mirrors, MNIST.mirrors = MNIST.mirrors, ["http://127.0.0.1:9/"]
    message = r"^t10k-images-idx3-ubyte.gz in .*: incomplete, or not an archive of mnist's files; delete each"
    with pytest.raises(UserError, match=message):
        choose_dataset("auto", tmp_path)
    MNIST.mirrors = mirrors
    assert torch.equal(load("mnist", tmp_path).test.tensors[0], data.test.tensors[0])


def test_names_with_a_dot_are_recognised_and_are_to_be_renamed(mnist_server, data, tmp_path):
    load("mnist", tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    for file in MD5:
        (raw / file).rename(raw / file.replace("-idx", ".idx"))
    with pytest.raises(UserError, match="have a dot before idx: rename them to train-images-idx3-ubyte, "):
        choose_dataset("auto", tmp_path)


def test_files_of_another_data_set_are_no_mnist(mnist_server, tmp_path, monkeypatch):
    load("mnist", tmp_path)
    for file in MD5:
        monkeypatch.setitem(MD5, file, "0" * 32)
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte in .*: damaged, or from another data set .wrong MD5"):
        load("mnist", tmp_path)


def test_processes_that_want_the_data_at_once_all_get_it_whole(mnist_server, data, tmp_path):
    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(lambda _: load("mnist", tmp_path), range(3)))
    assert all(torch.equal(each.train.tensors[0], data.train.tensors[0]) for each in loaded)


@pytest.mark.parametrize("file", MD5)
def test_one_flipped_bit_in_a_file_of_mnist_is_found(mnist_server, tmp_path, file):
    load("mnist", tmp_path)
    path = tmp_path / "MNIST" / "raw" / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{file} in .*: damaged.*; delete each"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("train-images-idx3-ubyte", lambda content: content[:-1]),
        ("train-images-idx3-ubyte", lambda content: b""),
        ("t10k-labels-idx1-ubyte", lambda content: content[:4] + b"\x00\x00\x00\x01" + content[-1:]),
        ("train-images-idx3-ubyte", lambda content: content[:4] + b"\xff\xff\xff\xff" + content[8:]),
        ("train-labels-idx1-ubyte", lambda content: b"<html>Please log in to this network</html>"),
    ],
    ids=["truncated", "empty", "one label", "four billion images", "a page"],
)
def test_files_that_are_not_in_the_format_are_refused(data_dir, tmp_path, file, change):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "SyntheticMNIST" / "raw" / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match="damaged"):
        load("synthetic", tmp_path)
