"""Random distortions of a whole batch of images at once, on whatever device the images are on.

For each pixel of the result, we compute which point of the original it shows. That is a linear function of a few
parameters, theta: those of an affine map, and the displacements of a grid of control points. So one matrix product
gives the points of a whole batch, ten times as fast as PyTorch's `affine_grid` and `interpolate`.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

SIZE = 28  # pixels per side


def to_float(images: Tensor) -> Tensor:
    """Turn images, (B, 28, 28) uint8, into what the network takes: (B, 1, 28, 28) floats in [0, 1]."""
    return images.unsqueeze(1).float().div_(255)


def random_theta(
    strengths: Tensor, limits: list[float], elastic_pixels: float, control_points: int, generator: Generator
) -> Tensor:
    """Draw theta, (N, 2, 3 + control_points ** 2), for N images; strengths, (N,), scale all distortions.

    The first three parameters are an affine map, as `affine_grid` takes it. limits has the largest rotation and
    shear (degrees), scale change (a fraction) and shift (pixels). Draws are uniform between minus and plus these, for
    scale and shift on each axis. The other parameters displace a grid of control points by normal draws with a
    standard deviation of elastic_pixels; pixels between them move smoothly (https://arxiv.org/abs/1505.04597, section
    3.1; for MNIST: https://doi.org/10.1109/ICDAR.2003.1227801). Strength 0 leaves an image unchanged.
    """
    count, strengths, half = len(strengths), strengths.unsqueeze(1), SIZE / 2  # a unit of the grid is half the image
    rotation, shear, scale, shift = limits
    draws = 2 * torch.rand(count, 6, generator=generator) - 1
    draws = draws * torch.tensor([rotation, shear, scale, scale, shift, shift]) * strengths
    angle, slant, width, height, shift_x, shift_y = draws.unbind(dim=1)
    cos, sin, slant = angle.deg2rad().cos(), angle.deg2rad().sin(), slant.deg2rad().tan()
    # The point x of the result shows the point rotation @ shear @ scale^-1 @ x + shift of the original.
    row_x = torch.stack([cos / (1 + width), (cos * slant - sin) / (1 + height), shift_x / half], dim=1)
    row_y = torch.stack([sin / (1 + width), (sin * slant + cos) / (1 + height), shift_y / half], dim=1)
    affine = torch.stack([row_x, row_y], dim=1)  # (N, 2, 3)
    displacements = torch.randn(count, 2 * control_points**2, generator=generator) * (elastic_pixels / half) * strengths
    return torch.cat([affine, displacements.view(count, 2, -1)], dim=2)


@cache
def basis(parameters: int, device: torch.device) -> Tensor:
    """Return the factor of each parameter of theta in the x (or y) of each pixel's point: (parameters, 784).

    First come the pixel's own x and y, and 1, for the affine map, then a bicubic bump around each control point.
    """
    points = math.isqrt(parameters - 3)  # per side
    position = (torch.arange(SIZE) + 0.5) / (SIZE / 2) - 1  # the pixels' centres
    affine = torch.stack([position.repeat(SIZE), position.repeat_interleave(SIZE), torch.ones(SIZE**2)])
    bumps = torch.eye(points**2).view(1, -1, points, points)
    bumps = F.interpolate(bumps, size=(SIZE, SIZE), mode="bicubic", align_corners=True)  # (1, points**2, 28, 28)
    return torch.cat([affine, bumps.view(-1, SIZE**2)]).to(device)


def warp(images: Tensor, theta: Tensor) -> Tensor:
    """Return images, (B, 1, 28, 28), distorted by theta, (B, 2, 3 + P), with 0 outside of the image."""
    points = theta.flatten(0, 1) @ basis(theta.shape[2], images.device)  # (2B, 784)
    grid = points.view(-1, 2, SIZE, SIZE).permute(0, 2, 3, 1)  # (B, 28, 28, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
