import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from evaluate import evaluate
from model import DigitCNN
from training.charts import draw_charts, draw_filters

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


class OtherCNN(nn.Module):
    """Two convolutions of other names, sizes and numbers of channels, with maps of 14x14."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.Flatten()
        )
        self.head = nn.Linear(32 * 12 * 12, 10)

    def forward(self, images):
        return self.head(self.features(images))


def test_images_and_kernels_stand_beside_their_maps_whatever_the_networks_shape(tmp_path):
    model = OtherCNN()
    first, second = model.features[0], model.features[3]
    with torch.no_grad():  # kernel 11 wants ink, and its map is bright where an image is white; all others are dark
        first.weight.fill_(-1)
        first.bias.fill_(-100)
        first.weight[11], first.bias[11] = 1, 0
        second.weight.zero_()
    images = torch.zeros(10, 28, 28, dtype=torch.uint8)
    images[6] = 255
    assert draw_filters(tmp_path / "filters.png", model, images, "title")
    with Image.open(tmp_path / "filters.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    orange, purple, bright = (box(pixels, colour) for colour in (ORANGE, PURPLE, BRIGHT))
    pitch = (purple[3] - purple[2]) / 15.87  # of 16 kernels side by side
    assert (orange[2] - purple[2]) / pitch == pytest.approx(11, abs=0.2)
    assert bright[2:] == pytest.approx(orange[2:], abs=2)
    left = pixels[orange[1] + 5 :, : purple[2] - 5]  # the column of the images, all of which are black but one
    black = np.flatnonzero((left == 0).all(axis=2).any(axis=1)) + orange[1] + 5
    height = black.max() - black.min()
    assert (bright[0] - black.min()) / height == pytest.approx(6 / 9.87, abs=0.02)
    # The white image is on white paper; the black ones above and below it end and begin where the bright map does.
    above, below = black[black < bright[0]].max(), black[black > bright[1]].min()
    gap = height / 9.87 * 0.13
    assert bright[0] - above == pytest.approx(gap, abs=3)
    assert below - bright[1] == pytest.approx(gap, abs=3)


def test_network_without_two_convolutions_gets_the_other_charts_and_a_warning(tmp_path, data, capsys):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    evaluation = evaluate(model, data.test)
    files = draw_charts(tmp_path, model, data.test, evaluation, list("0123456789"), "title")
    assert files == [tmp_path / "confusion_matrix.png", tmp_path / "mistakes.png"]
    assert sorted(tmp_path.iterdir()) == files
    warning = "warning: filters.png is left out, because the network has fewer than two convolutions\n"
    assert capsys.readouterr().err == warning
