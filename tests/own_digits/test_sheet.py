import numpy as np
import pytest
from drawing import draw
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks.pictures import PHOTOS, in_frame, on_table
from own_digits.sheet import cut_out_sheet, is_quadrilateral, otsu_threshold, polygon_area

HALF_LIT_SHEET = "a sheet on a table, sharp shadow"


def rgb(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.uint8(255 * pixels.clip(0, 1))).convert("RGB")


@pytest.mark.parametrize("size", [100, 400, 1000])
def test_sheet_on_a_table_is_cut_out_and_its_surroundings_painted_over(size):
    picture = rgb(on_table(draw(0, height=0.3), table=0.2)).resize((size, size))
    sheet = cut_out_sheet(picture)
    left, top, right, bottom = 0.025, 0.0375, 0.975, 0.9625  # of the table's polygon
    assert sheet.size == pytest.approx((size * (right - left), size * (bottom - top)), abs=0.05 * size)
    dark = ndimage.label(np.asarray(sheet.convert("L")) < 0.7 * 255)[0]
    assert dark.max() == 1  # the digit alone, nothing of the table
    assert np.mean(dark) == pytest.approx(0.04, abs=0.02)


def test_sheet_that_an_edge_of_the_picture_cuts_off_is_cut_out():
    photo = rgb(on_table(draw(0, height=0.3), table=0.2)).crop((0, 0, 400, 330))
    assert cut_out_sheet(photo).size == pytest.approx((370, 310), abs=20)


def test_dark_field_on_a_light_page_is_cut_out():
    page = np.ones((400, 400))
    page[60:340, 80:320] = draw(0, height=0.3)[60:340, 80:320]
    field = cut_out_sheet(rgb(page))
    assert field.size == pytest.approx((240, 280), abs=15)
    assert np.mean(np.asarray(field) > 0.5 * 255) == pytest.approx(0.1, abs=0.05)  # the digit's ink alone


def test_sheet_half_in_a_shadow_is_cut_out_whole():
    ink = draw(0, height=0.3)
    lit, half_lit = (cut_out_sheet(rgb(PHOTOS[kind](ink))) for kind in ("a sheet on a dark table", HALF_LIT_SHEET))
    assert half_lit.size == pytest.approx(lit.size, abs=10)


def test_shadow_is_no_sheet():
    y, x = np.mgrid[:400, :400]
    paper = 1 - draw(0, height=0.3)
    for shadow in (
        (x > 120) & (x < 300) & (y > 150),
        1 / (1 + np.exp(np.maximum(abs(x - 200), abs(y - 200)) / 10 - 12)),
    ):
        picture = rgb(paper * (1 - 0.5 * shadow))
        assert cut_out_sheet(picture) is picture


def test_field_with_a_frame_loses_the_frame():
    edges = np.asarray(cut_out_sheet(rgb(in_frame(draw(0, height=0.3)))))
    assert min(edges[0].min(), edges[-1].min(), edges[:, 0].min(), edges[:, -1].min()) > 240


@pytest.mark.parametrize("kind", ["blank paper", "sharp shadow", "squared, lines 50% darker"])
def test_picture_of_nothing_but_paper_stays_whole(kind):
    picture = rgb(PHOTOS[kind](draw(8, height=0.4)))
    assert cut_out_sheet(picture) is picture


@pytest.mark.parametrize("digit", range(10))
def test_marker_is_no_sheet(digit):
    ink = draw(digit, height=0.8, pen=70)
    for pixels in (ink, 1 - ink):
        picture = rgb(pixels)
        assert cut_out_sheet(picture) is picture


@pytest.mark.parametrize("size", [(8, 8), (8, 900), (28, 28), (50, 50), (50, 1000)])
@pytest.mark.filterwarnings("error")
def test_smallest_pictures_stay_pictures(size):
    for fill in ("white", "black"):
        picture = Image.new("RGB", size, fill)
        ImageDraw.Draw(picture).rectangle((1, 1, size[0] - 2, size[1] - 2), "grey")
        assert min(cut_out_sheet(picture).size) >= 1


def mask(*points: tuple[int, int], kind: str = "polygon") -> np.ndarray:
    image = Image.new("1", (200, 200))
    getattr(ImageDraw.Draw(image), kind)(points, fill=1)
    return np.array(image)


def test_quadrilaterals_are_told_from_what_digits_and_shadows_look_like():
    assert is_quadrilateral(mask((20, 20), (180, 20), (180, 150), (20, 150)))
    assert is_quadrilateral(mask((60, 20), (140, 30), (190, 180), (10, 170)))
    assert is_quadrilateral(mask((100, 10), (190, 100), (100, 190), (10, 100)))
    assert not is_quadrilateral(mask((20, 20), (180, 180), kind="ellipse"))
    assert not is_quadrilateral(mask((20, 100), (180, 260), kind="ellipse"))  # half a disc
    assert not is_quadrilateral(mask((20, 20), (180, 20), (180, 60), (60, 60), (60, 180), (20, 180)))
    assert not is_quadrilateral(mask((80, 10), (110, 10), (110, 190), (80, 190)))  # a thick 1


def test_area_is_that_of_the_outline():
    square = np.array([(0, 0), (0, 2), (2, 2), (2, 0)])
    polygons = np.stack([square, square + [3, -1], square[::-1] / 2])
    assert polygon_area(polygons).tolist() == pytest.approx([4, 4, 1])


def test_threshold_leaves_the_least_variance_on_both_sides():
    random = np.random.default_rng(0)
    grey = np.concatenate([random.normal(60, 10, 3000), random.normal(180, 25, 1000)])

    def variance_within(threshold: float) -> float:
        return sum(part.var() * len(part) for part in (grey[grey <= threshold], grey[grey > threshold]))

    best = min(np.linspace(70, 170, 400), key=variance_within)
    assert otsu_threshold(grey) == pytest.approx(best, abs=(grey.max() - grey.min()) / 64)
