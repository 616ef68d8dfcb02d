import torch

from mnist.synthetic import FONTS, draw_digits, draw_glyph


def test_images_have_the_form_of_mnist(data):
    assert data.description["name"] == "synthetic"
    assert data.train.tensors[0].dtype == torch.uint8
    assert data.train.tensors[0].shape == (800, 28, 28)
    assert sorted(data.train.tensors[1].unique().tolist()) == list(range(10))
    mean = data.train.tensors[0].float().mean().item() / 255
    assert 0.05 < mean < 0.25  # light ink on black, about as much as MNIST's 0.13


def test_each_font_draws_ten_different_digits_within_the_20x20_box():
    for font in FONTS:
        glyphs = [draw_glyph(font, digit) for digit in range(10)]
        assert len({glyph.tobytes() for glyph in glyphs}) == 10
        for glyph in glyphs:
            rows, columns = glyph.any(axis=1).nonzero()[0], glyph.any(axis=0).nonzero()[0]
            assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 == 20
            assert min(rows[0], columns[0], 27 - rows[-1], 27 - columns[-1]) >= 4


def test_drawing_is_the_same_for_the_same_seed():
    first, second = (draw_digits(50, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()
