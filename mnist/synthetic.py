"""Digits drawn from the fonts that matplotlib ships, in MNIST's own file format: for machines that can't download it.

They are far easier than handwriting, so nothing measured on them says anything about MNIST.
"""

import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Generator
from torchvision.datasets import MNIST

from mnist.augmentation import random_theta, warp

FONTS = [
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10",
]  # fmt: skip


class SyntheticMNIST(MNIST):
    """A drop-in replacement for torchvision's MNIST; download() draws the images, the same ones on every call."""

    train_images, test_images = 60_000, 10_000

    def download(self) -> None:
        folder = Path(self.raw_folder)
        folder.mkdir(parents=True, exist_ok=True)
        for seed, (part, count) in enumerate([("train", self.train_images), ("t10k", self.test_images)]):
            images, labels = draw_digits(count, torch.Generator().manual_seed(seed))
            (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_file(images))
            (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_file(labels))


def idx_file(values: np.ndarray) -> bytes:
    """Return the content of a file in MNIST's format: type (unsigned bytes), dimensions, shape, values."""
    return struct.pack(f">{1 + values.ndim}i", 0x800 + values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def draw_digits(count: int, generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw random digits in random fonts: images, (count, 28, 28) uint8, light ink on black; labels, (count,) uint8."""
    glyphs = torch.stack([torch.from_numpy(draw_glyph(font, digit)) for font in FONTS for digit in range(10)])
    choice = torch.randint(len(glyphs), (count,), generator=generator)
    theta = random_theta(torch.ones(count), [15, 15, 0.2, 2], elastic_pixels=0, control_points=4, generator=generator)
    images = torch.empty(count, 28, 28, dtype=torch.uint8)
    for chunk in torch.arange(count).split(1000):
        warped = warp(glyphs[choice[chunk], None].float(), theta[chunk])  # (1000, 1, 28, 28)
        images[chunk] = warped.squeeze(1).round().byte()
    return images.numpy(), (choice % 10).byte().numpy()


def draw_glyph(font: str, character: int | str) -> np.ndarray:
    """Draw one digit, or letter, (28, 28) uint8: its box scaled to fit 20x20, as in MNIST, and put at the centre."""
    import matplotlib  # only where digits are drawn: its import takes a while

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    canvas = Image.new("L", (200, 200))
    ImageDraw.Draw(canvas).text((30, 0), str(character), fill=255, font=ImageFont.truetype(str(path), 120))
    glyph = canvas.crop(canvas.getbbox())
    scale = 20 / max(glyph.size)
    glyph = glyph.resize([max(1, round(side * scale)) for side in glyph.size], Image.Resampling.LANCZOS)
    image = Image.new("L", (28, 28))
    image.paste(glyph, ((28 - glyph.width) // 2, (28 - glyph.height) // 2))
    return np.array(image)
