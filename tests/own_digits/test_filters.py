import numpy as np
import pytest
import torch
from PIL import Image

from model import DigitCNN
from own_digits.filters import draw_filters


def test_filters_are_drawn_side_by_side_with_the_maps_below_their_kernels(tmp_path):
    model = DigitCNN()
    with torch.no_grad():  # kernel 7 wants ink, and its map is bright where an image is white; all others are dark
        model.conv1.weight.fill_(-1)
        model.conv1.bias.fill_(-100)
        model.conv1.weight[7], model.conv1.bias[7] = 1, 0
        model.conv2.weight.zero_()
    images = torch.zeros(3, 28, 28, dtype=torch.uint8)
    images[2] = 255
    draw_filters(tmp_path / "filters.png", model, images, "title")
    with Image.open(tmp_path / "filters.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)

    def box(colour) -> list[int]:  # top, bottom, left and right of the pixels of a colour
        rows, columns = (np.abs(pixels - colour).max(axis=-1) <= 2).nonzero()
        return [rows.min(), rows.max(), columns.min(), columns.max()]

    orange, purple = box((127, 59, 8)), box((45, 0, 75))  # the ends of the kernels' colours
    bright = box((252, 255, 164))  # and of the maps'
    assert orange[:2] == pytest.approx(purple[:2], abs=1)
    assert purple[2] < orange[2] < orange[3] < purple[3]
    assert orange[1] < bright[0]
    assert bright[2:] == pytest.approx(orange[2:], abs=2)
