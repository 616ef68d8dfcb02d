"""Train the weights that predict.py and demo.py use where there is no run of one's own.

    python benchmarks/reading_weights.py [--data-dir data] [--output-dir results/reading]

Network and recipe are those of train.py, for 20 epochs, and the weights are the average at the end of the last one.
Besides MNIST's training images, the network learns from a drawing of each: the same digit traced with a round pen, thin
or thick, sometimes cut off a little, and many ones, sixes and nines in shapes of which MNIST has few (pictures.py). The
drawings become 28x28 images as in predict.py. Validation and test images are MNIST's alone. Writes weights.pt,
metrics.csv and run.json. Needs requirements-benchmarks.txt; takes about ten minutes on two CPU cores.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.random import Generator  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402

import train  # noqa: E402
from benchmarks.pictures import SHAPES, images_of, redraw, reshape  # noqa: E402
from common.command_line import Parser, command  # noqa: E402
from common.files import write_atomically  # noqa: E402
from mnist.dataset import load_data  # noqa: E402
from own_digits.digit_image import normalize  # noqa: E402
from training.checkpoint import describe_run, serialize  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.metrics import table_heading, table_row, write_metrics  # noqa: E402

HEIGHT, CANVAS = 120, 200  # pixels: the longer side of a drawing without the pen's width, and of its paper


def draw_again(image: np.ndarray, label: int, random: Generator) -> np.ndarray | None:
    """Return a drawing of the digit in an image of MNIST, both (28, 28) uint8; None if it is too thick to be one."""
    shapes = [shape for shape, digit in SHAPES.items() if digit == label]
    if shapes and random.random() < 0.6:
        image = reshape(image, random, random.choice(shapes))
    pen = HEIGHT * np.exp(random.uniform(np.log(0.02), np.log(0.3)))
    ink = redraw(image, random, HEIGHT, round(pen), CANVAS)
    if random.random() < 0.3:
        turned = np.rot90(ink, random.integers(4))  # a view of the same pixels
        rows = np.flatnonzero(turned.max(axis=1) > 0.5)
        turned[: rows[0] + round(random.uniform(0, 0.1) * len(rows))] = 0
    return normalize(ink)


def drawing_of(index: int, data_dir: Path) -> np.ndarray | None:
    """Return the drawing of a training image, the same on every call."""
    image, label = images_of("train", data_dir)[index]
    return draw_again(image.numpy(), int(label), np.random.default_rng(index))


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=REPOSITORY / "data", help="where MNIST lies (default: data)")
    folder = REPOSITORY / "results" / "reading"
    parser.add_argument("--output-dir", type=Path, default=folder, help="(default: results/reading)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    data = load_data("mnist", args.data_dir)
    images, labels = data.train.tensors
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        drawings = list(pool.map(partial(drawing_of, data_dir=args.data_dir), range(len(images)), chunksize=500))
    kept = [index for index, drawing in enumerate(drawings) if drawing is not None]
    images = torch.cat([images, torch.from_numpy(np.stack([drawings[index] for index in kept]))])
    data = data._replace(train=TensorDataset(images, torch.cat([labels, labels[kept]])))

    config = TrainConfig(epochs=20)
    run = describe_run(config, data.description, torch.device("cpu"), init=None) | {"drawings": len(kept)}
    training, history = train.build_training(config, torch.device("cpu")), []
    print(table_heading())
    for epoch in range(1, config.epochs + 1):
        history.append(train.run_epoch(training, data, config, epoch))
        print(table_row(history[-1]), flush=True)
    run["seconds"] = round(sum(epoch.train_seconds for epoch in history), 2)
    write_atomically(args.output_dir / "weights.pt", serialize(training.averaged_model.state_dict()))
    write_metrics(args.output_dir / "metrics.csv", history)
    write_atomically(args.output_dir / "run.json", json.dumps(run, indent=2) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
