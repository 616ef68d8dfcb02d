"""The same network in Keras, as its users write it, to compare with: model.fit on arrays of all images, plain Adam.

python -m benchmarks.keras_loop [--data-dir data]     # wants `pip install tensorflow`, and MNIST in data/
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers


def build_model() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(10, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.ZeroPadding2D(1),
            layers.Conv2D(20, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(50, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


def load(data_dir: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images, normalised floats (N, 28, 28, 1), and labels, (N,), from the unpacked files of MNIST."""
    folder = Path(data_dir, "MNIST", "raw")
    images = np.fromfile(folder / f"{part}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 28, 28, 1)
    labels = np.fromfile(folder / f"{part}-labels-idx1-ubyte", np.uint8, offset=8)
    return (images.astype("float32") / 255 - 0.1307) / 0.3081, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--data-dir", default="data")
    args = parser.parse_args()

    (images, labels), test = load(args.data_dir, "train"), load(args.data_dir, "t10k")
    keras.utils.set_random_seed(0)
    model = build_model()
    for epoch in range(1, args.epochs + 1):
        started = time.perf_counter()
        model.fit(images[:55_000], labels[:55_000], batch_size=128, verbose=0)
        train_seconds = time.perf_counter() - started
        _, validation_accuracy = model.evaluate(images[55_000:], labels[55_000:], batch_size=1000, verbose=0)
        _, accuracy = model.evaluate(*test, batch_size=1000, verbose=0)
        seconds = time.perf_counter() - started
        print(
            f"epoch {epoch}: validation accuracy {validation_accuracy:.4f}, test accuracy {accuracy:.4f}, "
            f"{train_seconds:.2f} s training, {seconds:.2f} s with evaluations",
            flush=True,
        )


if __name__ == "__main__":
    main()
