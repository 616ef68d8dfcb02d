"""Draw what the convolutions look for: their kernels, and the maps that the first one makes of some images."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.figures import Figure, save_figure, without_tex
from mnist.dataset import to_float
from own_digits.layers import record_activations


@without_tex
def draw_filters(path: Path, model: nn.Module, images: Tensor, title: str) -> None:
    """Draw the kernels of both convolutions of a model, and what the first one makes of images, (N, 28, 28) uint8.

    Kernels are scaled to the largest weight of the map that they make, maps to the brightest one of each image. The
    model is moved to the CPU and into evaluation mode.
    """
    with torch.inference_mode(), record_activations(model.cpu().eval()) as activations:
        model(to_float(images))
    maps = activations["conv1"].numpy()  # (N, 10, 13, 13)
    kernels = [layer.weight.detach().numpy() for layer in (model.conv1, model.conv2)]
    figure = Figure(figsize=(11.5, 7.6), dpi=120, layout="constrained")
    figure.suptitle(f"{title}: what the convolutions look for", fontsize=12)
    sizes = {"width_ratios": [1, 10, 5.3], "height_ratios": [1, len(images)]}
    panels = figure.subplot_mosaic([[".", "first", "second"], ["images", "maps", "second"]], gridspec_kw=sizes)
    weights = {"cmap": "PuOr_r", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
    panels["first"].imshow(tiles(kernels[0].swapaxes(0, 1), (0, 2, 3)), **weights)
    panels["second"].imshow(tiles(kernels[1], (1, 2, 3)), **weights)
    panels["images"].imshow(tiles(images[:, None].numpy(), (1, 2, 3)), cmap="gray", vmin=0, vmax=1)
    panels["maps"].imshow(tiles(maps, (1, 2, 3)), cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
    first, second = map(len, kernels)
    titles = {
        "first": f"first convolution: its {first} kernels (orange wants ink, purple wants none)",
        "maps": f"its {first} maps of an image of each digit, after pooling and ReLU",
        "second": f"second convolution: a row of kernels for each of\nits {second} maps, one for each map of the first",
    }
    for name, axes in panels.items():
        axes.axis("off")
        axes.set_title(titles.get(name, ""), fontsize=10)
    save_figure(figure, path)


def tiles(images: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Put images, (rows, columns, H, W), side by side with gaps, divided by their largest absolute value along axes."""
    images = images / np.maximum(np.abs(images).max(axes, keepdims=True), 1e-9)
    scale = 65 // images.shape[-1]  # kernels of 5x5 and maps of 13x13 get the same size
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    padded = np.pad(images, [(0, 0), (0, 0), (0, 10), (0, 10)], constant_values=np.nan)
    rows, columns, height, width = padded.shape
    return padded.swapaxes(1, 2).reshape(rows * height, columns * width)
