"""Random distortions of a whole batch of images at once, on whatever device the images are.

A distorted image shows, at each pixel, some point of the original. Where that lies is linear in a few numbers, those of
an affine map and the displacements of a grid of control points: one matrix product gives the points of a whole batch.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

SIZE = 28  # pixels, of either side


def random_maps(
    strengths: Tensor, limits: list[float], elastic: float, control_points: int, generator: Generator | None = None
) -> Tensor:
    """Draw a random map for each of N images: an affine map and an elastic distortion.

    Rotation and shear in degrees, change of scale, and shift in pixels are uniform between minus and plus their limits,
    in this order. The elastic part displaces a grid of control_points x control_points by normal draws with a standard
    deviation of `elastic` pixels, and what lies between them smoothly (https://arxiv.org/abs/1505.04597, section 3.1;
    what it does for MNIST: https://doi.org/10.1109/ICDAR.2003.1227801). strengths, (N,), are factors of all limits.

    Returns (N, 2, 3 + control_points ** 2): for x and y, the affine map's row and the control points' displacements. A
    map takes a point of the result to the point of the image that is shown there, in the coordinates of `grid_sample`,
    which run from -1 to 1. With strength 0 it is the identity.
    """
    count, strengths = len(strengths), strengths.unsqueeze(1)  # (N, 1)
    rotation, shear, scale, shift = limits
    draws = 2 * torch.rand(count, 6, generator=generator) - 1
    draws = draws * torch.tensor([rotation, shear, scale, scale, shift, shift]) * strengths
    angle, slant, width, height, shift_x, shift_y = draws.unbind(dim=1)
    cos, sin, slant = angle.deg2rad().cos(), angle.deg2rad().sin(), slant.deg2rad().tan()
    half = SIZE / 2  # pixels for each unit of the coordinates
    # Read from right to left, x' = rotation @ shear @ scale^-1 @ x + shift:
    row_x = torch.stack([cos / (1 + width), (cos * slant - sin) / (1 + height), shift_x / half], dim=1)
    row_y = torch.stack([sin / (1 + width), (sin * slant + cos) / (1 + height), shift_y / half], dim=1)
    affine = torch.stack([row_x, row_y], dim=1)  # (N, 2, 3)
    displacements = torch.randn(count, 2 * control_points**2, generator=generator) * (elastic / half) * strengths
    return torch.cat([affine, displacements.view(count, 2, -1)], dim=2)


@cache
def basis(numbers: int, device: torch.device) -> Tensor:
    """Return what each number of a map adds to x (or y) at each pixel, (numbers, 784).

    First come x, y and 1, for an affine map, then a bicubic bump around each control point.
    """
    points = math.isqrt(numbers - 3)  # along either side
    position = (torch.arange(SIZE) + 0.5) / (SIZE / 2) - 1  # of the pixels' centres
    affine = torch.stack([position.repeat(SIZE), position.repeat_interleave(SIZE), torch.ones(SIZE**2)])
    bumps = torch.eye(points**2).view(1, -1, points, points)
    bumps = F.interpolate(bumps, size=(SIZE, SIZE), mode="bicubic", align_corners=True)  # (1, points**2, 28, 28)
    return torch.cat([affine, bumps.view(-1, SIZE**2)]).to(device)


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Return images, (B, 1, 28, 28), distorted by maps, (B, 2, 3 + P), with 0 outside of the image."""
    points = maps.flatten(0, 1) @ basis(maps.shape[2], images.device)  # (2B, 784)
    grid = points.view(-1, 2, SIZE, SIZE).permute(0, 2, 3, 1)  # (B, 28, 28, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def augment(images: Tensor, maps: Tensor) -> Tensor:
    """Return a batch for training, (B, 1, 28, 28) floats in [0, 1]: the images distorted by maps, (B, 2, 3 + P)."""
    return warp(images, maps)
