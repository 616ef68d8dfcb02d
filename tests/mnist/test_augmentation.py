import math

import pytest
import torch
import torch.nn.functional as F

from mnist import augmentation
from mnist.augmentation import to_float, warp

NOTHING = {"rotation_degrees": 0, "shear_degrees": 0, "scale_change": 0, "shift_pixels": 0, "elastic_pixels": 0}
DEFAULT = {"rotation_degrees": 10, "shear_degrees": 10, "scale_change": 0.1, "shift_pixels": 2, "elastic_pixels": 1}


def random_theta(strengths, generator, **limits):
    *affine, elastic = {**DEFAULT, **limits}.values()
    return augmentation.random_theta(strengths, affine, elastic, control_points=4, generator=generator)


def shift(pixels: float) -> torch.Tensor:
    """Return theta, (1, 2, 19), that shows at each pixel what lies so many pixels to the right of it."""
    affine = torch.tensor([[[1.0, 0, 2 * pixels / 28], [0, 1, 0]]])
    return torch.cat([affine, torch.zeros(1, 2, 16)], dim=2)


def test_theta_of_the_identity_leaves_images_as_they_are(generator):
    images = torch.rand(5, 1, 28, 28, generator=generator)
    theta = random_theta(torch.ones(5), generator, **NOTHING)
    torch.testing.assert_close(warp(images, theta), images, atol=1e-5, rtol=0)


def test_each_image_gets_a_theta_of_its_own(generator):
    image = torch.zeros(1, 1, 28, 28)
    image[..., 8:20, 12:16] = 1
    warped = warp(image.expand(50, 1, 28, 28), random_theta(torch.ones(50), generator))
    assert len(warped.flatten(1).unique(dim=0)) == 50


def test_augmented_images_stay_within_the_range_of_the_images(generator):
    warped = warp(torch.rand(200, 1, 28, 28, generator=generator), random_theta(torch.ones(200), generator))
    assert warped.shape == (200, 1, 28, 28)
    assert warped.min() >= 0
    assert warped.max() <= 1


def test_what_comes_in_from_outside_of_the_image_is_background():
    warped = warp(torch.ones(1, 1, 28, 28), shift(1))
    torch.testing.assert_close(warped[0, 0, :, -1], torch.zeros(28), atol=1e-5, rtol=0)
    torch.testing.assert_close(warped[0, 0, :, :-1], torch.ones(28, 27))


def test_shift_moves_an_image_by_whole_pixels():
    image = torch.rand(1, 1, 28, 28)
    shifted = warp(image, shift(3))
    torch.testing.assert_close(shifted[..., :25], image[..., 3:], atol=1e-5, rtol=0)


def test_displaced_control_point_moves_the_pixels_around_it_and_no_other(generator):
    image = torch.rand(1, 1, 28, 28, generator=generator)
    theta = shift(0)
    theta[0, 0, 3] = 2 * 2 / 28  # the first control point, in the upper left corner, by two pixels along x
    warped = warp(image, theta)[0, 0]
    torch.testing.assert_close(warped[0, 0], image[0, 0, 0, 2], atol=1e-5, rtol=0)
    torch.testing.assert_close(warped[:, 19:], image[0, 0, :, 19:], atol=1e-5, rtol=0)
    torch.testing.assert_close(warped[19:], image[0, 0, 19:], atol=1e-5, rtol=0)


def test_elastic_displacements_have_the_standard_deviation_that_was_asked_for(generator):
    theta = random_theta(torch.ones(5000), generator, **{**NOTHING, "elastic_pixels": 1.5})
    assert theta.shape == (5000, 2, 3 + 16)
    torch.testing.assert_close(14 * theta[:, :, 3:].std(dim=0), torch.full((2, 16), 1.5), atol=0, rtol=0.05)


def test_strength_is_a_factor_of_every_limit_for_each_image(generator):
    strengths = torch.tensor([0.0, 0.5, 1.0])
    whole, faded = (random_theta(s, torch.Generator().manual_seed(3)) for s in (torch.ones(3), strengths))
    torch.testing.assert_close(faded[2], whole[2])
    torch.testing.assert_close(faded[0], shift(0)[0])
    torch.testing.assert_close(faded[1, :, 2:], whole[1, :, 2:] / 2)  # shift and displacements are linear in it


def test_same_generator_state_draws_the_same_theta():
    first, second = (random_theta(torch.ones(7), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


def test_affine_part_is_the_product_of_rotation_shear_and_scale_and_then_the_shift(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, generator: torch.ones(size))  # each amount is its limit
    theta = random_theta(torch.ones(1), None, **{**DEFAULT, "rotation_degrees": 30, "shear_degrees": 20})[0]
    angle, slant = math.radians(30), math.radians(20)
    rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shear, scale = torch.tensor([[1, math.tan(slant)], [0, 1]]), torch.tensor([[1.1, 0], [0, 1.1]])
    torch.testing.assert_close(theta[:, :2], rotation @ shear @ scale.inverse())
    torch.testing.assert_close(theta[:, 2], torch.tensor([2 / 14, 2 / 14]))  # a unit of the coordinates is 14 pixels


def test_warp_shows_what_pytorchs_affine_grid_and_bicubic_interpolation_give(generator):
    images, theta = torch.rand(20, 1, 28, 28, generator=generator), random_theta(torch.ones(20), generator)
    grid = F.affine_grid(theta[:, :, :3], [20, 1, 28, 28], align_corners=False)
    displacements = theta[:, :, 3:].unflatten(2, (4, 4))
    displacements = F.interpolate(displacements, size=(28, 28), mode="bicubic", align_corners=True)  # (20, 2, 28, 28)
    expected = F.grid_sample(images, grid + displacements.permute(0, 2, 3, 1), align_corners=False)
    torch.testing.assert_close(warp(images, theta), expected, atol=1e-4, rtol=0)


def test_both_axes_are_scaled_and_shifted_independently(generator):
    theta = random_theta(torch.ones(5000), generator, **{**NOTHING, "scale_change": 0.1, "shift_pixels": 2})
    for x, y in [(theta[:, 0, 0], theta[:, 1, 1]), (theta[:, 0, 2], theta[:, 1, 2])]:
        assert torch.corrcoef(torch.stack([x, y]))[0, 1].abs() < 0.06


@pytest.mark.parametrize(
    ("name", "limit", "measure"),
    [
        ("rotation_degrees", 10, lambda m: torch.atan2(m[:, 1, 0], m[:, 0, 0]).rad2deg()),
        ("shear_degrees", 20, lambda m: torch.atan(m[:, 0, 1]).rad2deg()),
        ("scale_change", 0.1, lambda m: 1 / m[:, 0, 0] - 1),
        ("scale_change", 0.2, lambda m: 1 / m[:, 1, 1] - 1),
        ("shift_pixels", 2, lambda m: m[:, 0, 2] * 14),
        ("shift_pixels", 3, lambda m: m[:, 1, 2] * 14),
    ],
)
def test_draws_fill_their_range_and_do_not_leave_it(generator, name, limit, measure):
    amounts = measure(random_theta(torch.ones(5000), generator, **{**NOTHING, name: limit}))
    assert amounts.abs().max() <= limit * (1 + 1e-4)
    assert amounts.min() < -0.98 * limit
    assert amounts.max() > 0.98 * limit
    # the variance of a uniform distribution
    assert math.isclose(amounts.var().item(), limit**2 / 3, rel_tol=0.05)


def test_to_float_scales_bytes_to_the_unit_interval():
    images = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1).expand(3, 28, 28))
    assert images.shape == (3, 1, 28, 28)
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([0.0, 0.2, 1.0]))
