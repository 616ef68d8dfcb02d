import numpy as np
import pytest
import torch
from PIL import Image

from model import DigitCNN
from training.charts import draw_filters

ORANGE, PURPLE = (127, 59, 8), (45, 0, 75)  # the ends of the kernels' colours
BRIGHT = (252, 255, 164)  # the end of the maps' colours


def box(pixels: np.ndarray, colour: tuple[int, int, int]) -> list[int]:
    """Return top, bottom, left and right of the pixels of a colour."""
    rows, columns = (np.abs(pixels - colour).max(axis=-1) <= 2).nonzero()
    return [rows.min(), rows.max(), columns.min(), columns.max()]


def test_kernels_stand_side_by_side_with_the_maps_that_they_make_below_them(tmp_path):
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
    orange, purple, bright = (box(pixels, colour) for colour in (ORANGE, PURPLE, BRIGHT))
    assert orange[:2] == pytest.approx(purple[:2], abs=1)
    pitch = (purple[3] - purple[2]) / 9.8  # of ten kernels side by side
    assert (orange[2] - purple[2]) / pitch == pytest.approx(7, abs=0.2)
    assert orange[1] < bright[0]
    assert bright[2:] == pytest.approx(orange[2:], abs=2)
    black = box(pixels[orange[1] + 5 :], (0, 0, 3))  # the dark maps, of all three images
    height = black[1] - black[0]
    assert bright[0] - (orange[1] + 5) - black[0] > 0.6 * height  # the bright map is in the third row


def test_kernels_of_the_second_convolution_have_a_row_for_each_of_its_maps(tmp_path):
    model = DigitCNN()
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.conv2.weight.fill_(-1)
        model.conv2.weight[15, 2] = 1  # of map 15, for map 2 of the first convolution
    draw_filters(tmp_path / "filters.png", model, torch.zeros(1, 28, 28, dtype=torch.uint8), "title")
    with Image.open(tmp_path / "filters.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    one, all_others = box(pixels, ORANGE), box(pixels, PURPLE)
    height, width = all_others[1] - all_others[0], all_others[3] - all_others[2]
    assert (one[0] - all_others[0]) / height == pytest.approx(15 / 20, abs=0.02)
    assert (one[2] - all_others[2]) / width == pytest.approx(2 / 10, abs=0.02)
