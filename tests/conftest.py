import multiprocessing
import os
import threading
from pathlib import Path

import pytest
import torch

from mnist.dataset import MD5, load_data
from mnist.synthetic import SyntheticMNIST
from own_digits.reader import REFERENCE_WEIGHTS
from training.checkpoint import load_weights

REPOSITORY = Path(__file__).resolve().parent.parent


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
    return load_data("synthetic", data_dir, validation_size=200)


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
    flags = ["--dataset", "synthetic", "--validation-size", "200", "--batch-size", "64", "--device", "cpu"]
    return [*flags, "--data-dir", str(data_dir), "--output-dir", str(tmp_path / "run")]


@pytest.fixture(scope="session")
def processes():
    """Where processes come from that have PyTorch already: forks of one that has imported train.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
        patch.setenv("OMP_NUM_THREADS", "1")  # not more than needed, of many processes
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["running"])
        yield context


@pytest.fixture(scope="session")
def reference():
    """The network with the weights in the repository."""
    return load_weights(REFERENCE_WEIGHTS)


@pytest.fixture(scope="module")
def server(reference):
    """The demo's server at work."""
    from own_digits.server import Server

    with Server(0, reference, "of <a test>") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
