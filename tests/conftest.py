import multiprocessing
import os
import signal
from pathlib import Path

import pytest

# Before PyTorch: on a machine with other work, threads that wait for each other's turn by spinning take 4 x as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from mnist.dataset import MD5, load_data
from mnist.synthetic import SyntheticMNIST
from model import DigitCNN
from own_digits.reader import READING_WEIGHTS
from training.config import TrainConfig
from training.run_files import load_weights

# The background jobs of a shell ignore SIGINT, those of nohup SIGHUP, and so would the commands that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):  # Windows has none
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL_CONFIG = TrainConfig(dataset="synthetic", validation_size=200)
SMALL = ["--dataset", "synthetic", "--validation-size", "200", "--batch-size", "64", "--device", "cpu"]


def pytest_addoption(parser):
    parser.addoption("--exhaustive", action="store_true", help="run all of the long tests, instead of samples of them")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("exhaustive"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("exhaustive")])
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]


@pytest.fixture(scope="session")
def exhaustive(request) -> bool:
    """Whether a test shall try everything; else it takes a sample, the same every time."""
    return request.config.getoption("exhaustive")


@pytest.fixture(scope="session")
def digits(exhaustive) -> list[int]:
    """The digits that a test of pictures draws."""
    return list(range(10)) if exhaustive else [1, 4, 8]


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """A folder with a small synthetic data set: 1,000 training and 300 test images."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SyntheticMNIST, "train_images", 1000)
        patch.setattr(SyntheticMNIST, "test_images", 300)
        SyntheticMNIST(folder, download=True)
    return folder


@pytest.fixture(scope="session")
def data(data_dir):
    return load_data(SMALL_CONFIG, data_dir)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder that holds the real MNIST: $MNIST_DATA_DIR, or data/. Without it, the test is skipped."""
    folder = Path(os.environ.get("MNIST_DATA_DIR", REPOSITORY / "data"))
    if not all((folder / "MNIST" / "raw" / file).is_file() for file in MD5):
        pytest.skip("wants the real MNIST: set MNIST_DATA_DIR to the --data-dir that holds it, or run train.py once")
    return folder


@pytest.fixture
def small_run(data_dir, tmp_path):
    """The flags of a training run of about a second."""
    return [*SMALL, "--data-dir", str(data_dir), "--output-dir", str(tmp_path / "run")]


@pytest.fixture(scope="session")
def processes():
    """Where processes come from that have PyTorch already: forks of one that has imported train.py."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("wants processes that are forked, which Windows lacks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
        patch.setenv("OMP_NUM_THREADS", "1")  # not more than needed, of many processes
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["running"])
        yield context


@pytest.fixture(scope="session")
def reference():
    """The network with the weights in results/reading."""
    model = DigitCNN().eval()
    load_weights(READING_WEIGHTS, model)
    return model


@pytest.fixture
def float64(monkeypatch):
    """In this test all is computed in float64."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
