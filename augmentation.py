"""Random affine maps of a whole batch of images at once, on whatever device the images are."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

# How far an image may be moved: the default recipe's augmentation.
MAX_ROTATION_DEGREES = 10.0
MAX_SHEAR_DEGREES = 10.0
MAX_SCALE_CHANGE = 0.1  # a scale from 0.9 to 1.1
MAX_SHIFT_PIXELS = 2.0


def random_affine_maps(
    count: int,
    generator: Generator,
    rotation_degrees: float = MAX_ROTATION_DEGREES,
    shear_degrees: float = MAX_SHEAR_DEGREES,
    scale_change: float = MAX_SCALE_CHANGE,
    shift_pixels: float = MAX_SHIFT_PIXELS,
) -> Tensor:
    """Draw one affine map for each of count images, every amount uniform within plus or minus its limit.

    Returns (count, 2, 3): each maps a point of the result to the point of the image that is shown there, in the
    coordinates of `affine_grid`, which run from -1 to 1. With every limit 0 it is the identity.
    """
    limits = [rotation_degrees, shear_degrees, scale_change, scale_change, shift_pixels, shift_pixels]
    draws = (2 * torch.rand(count, 6, generator=generator) - 1) * torch.tensor(limits)
    angle, shear, width, height, shift_x, shift_y = draws.unbind(dim=1)
    cos, sin, slant = angle.deg2rad().cos(), angle.deg2rad().sin(), shear.deg2rad().tan()
    width, height = 1 + width, 1 + height
    half = 28 / 2  # pixels for each unit of affine_grid's coordinates
    # Read from right to left, x' = rotation @ shear @ scale^-1 @ x + shift:
    row_x = torch.stack([cos / width, (cos * slant - sin) / height, shift_x / half], dim=1)
    row_y = torch.stack([sin / width, (sin * slant + cos) / height, shift_y / half], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Return the images, (B, 1, H, W), as maps, (B, 2, 3), show them: bilinear, with 0 outside of the image."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
