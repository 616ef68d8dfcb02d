"""The settings that recipe.py tries, and how train.py's own code is made to follow them."""

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn

import optimizer
import train
from mnist import augmentation
from model import DigitCNN
from training.config import TEXTBOOK, TrainConfig


@dataclass(frozen=True)
class Setting:
    """All that is tried here. The defaults are those of the default recipe."""

    learning_rate: float = TrainConfig.learning_rate
    batch_size: int = TrainConfig.batch_size
    weight_decay: float = TrainConfig.weight_decay
    schedule: str = TrainConfig.schedule  # or constant, cosine (decay), hold (the peak until 60% of the run)
    warm_up: float = optimizer.WARM_UP  # fraction of the run
    beta2: float = optimizer.BETAS[1]  # of Adam
    ema_decay: float = TrainConfig.ema_decay
    ema_ramp: int = train.EMA_RAMP
    augment: bool = TrainConfig.augment
    rotation: float = augmentation.MAX_ROTATION_DEGREES
    shear: float = augmentation.MAX_SHEAR_DEGREES
    scale: float = augmentation.MAX_SCALE_CHANGE
    shift: float = augmentation.MAX_SHIFT_PIXELS
    elastic: float = augmentation.ELASTIC_PIXELS
    control_points: int = augmentation.CONTROL_POINTS
    interpolation: str = "bilinear"  # or another mode of grid_sample
    final_strength: float = train.FINAL_STRENGTH  # of the augmentation
    initialisation: str = "pytorch"  # or he (https://arxiv.org/abs/1502.01852), positive (biases of fc1 raised by 0.5)
    label_smoothing: float = 0.0


# One step at a time, from the textbook recipe to the default.
ABLATION = {"textbook": Setting(**TEXTBOOK, elastic=0.0, final_strength=1.0)}
for name, field in {
    "+ one-cycle schedule": "schedule",
    "+ learning rate 0.01": "learning_rate",
    "+ weight decay": "weight_decay",
    "+ averaged weights": "ema_decay",
    "+ affine augmentation": "augment",
    "+ elastic augmentation": "elastic",
    "+ augmentation fades: the default": "final_strength",
}.items():
    ABLATION[name] = replace(list(ABLATION.values())[-1], **{field: getattr(Setting(), field)})

CHANGES = {
    "default": Setting(),
    "learning rate halved": Setting(learning_rate=Setting.learning_rate / 2),
    "learning rate doubled": Setting(learning_rate=Setting.learning_rate * 2),
    "cosine decay of the learning rate": Setting(schedule="cosine"),
    "batch size 64": Setting(batch_size=64),
    "weight decay halved": Setting(weight_decay=Setting.weight_decay / 2),
    "weight decay doubled": Setting(weight_decay=Setting.weight_decay * 2),
    "no averaged weights": Setting(ema_decay=0.0),
    "elastic augmentation alone": Setting(rotation=0.0, shear=0.0, scale=0.0, shift=0.0),
    "He initialisation": Setting(initialisation="he"),
    "label smoothing 0.05": Setting(label_smoothing=0.05),
    "no shift": Setting(shift=0.0),
    "augmentation fades to a quarter": Setting(final_strength=0.25),
    "elastic augmentation of 1.5 pixels": Setting(elastic=1.5),
    "Adam's beta2 0.99": Setting(beta2=0.99),
    "Adam's beta2 0.99, elastic augmentation of 1.5 pixels": Setting(beta2=0.99, elastic=1.5),
    "averaged weights of 100 steps": Setting(ema_decay=0.99),
    "no rotation": Setting(rotation=0.0),
    "no scale": Setting(scale=0.0),
    "no shear": Setting(shear=0.0),
    "bicubic interpolation": Setting(interpolation="bicubic"),
}


def he_initialised() -> DigitCNN:
    model = DigitCNN()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        else:
            nn.init.zeros_(parameter)
    return model


def positively_initialised() -> DigitCNN:
    """Return a network whose fc1 starts with all units active, so that none dies in the first steps."""
    model = DigitCNN()
    with torch.no_grad():
        model.fc1.bias += 0.5
    return model


INITIALISATIONS = {"he": he_initialised, "positive": positively_initialised}


def cosine(progress: float, peak: float, schedule: str) -> float:
    falling = max(0.0, progress - optimizer.WARM_UP) / (1 - optimizer.WARM_UP)
    return peak * min(progress / optimizer.WARM_UP, (1 + math.cos(math.pi * falling)) / 2)


def hold(progress: float, peak: float, schedule: str) -> float:
    return peak * min(progress / optimizer.WARM_UP, 1.0, (1 - progress) / 0.4)


SCHEDULES = {"cosine": cosine, "hold": hold}
CHOICES = {
    name: {value: value for value in values}
    for name, values in {
        "schedule": ["one-cycle", "constant", *SCHEDULES],
        "initialisation": ["pytorch", *INITIALISATIONS],
        "interpolation": ["bilinear", "bicubic", "nearest"],
    }.items()
}


def apply(setting: Setting) -> ExitStack:
    """Return a context in which train.py's own code, for an epoch of a run, does what the setting says."""
    s = setting
    maps = partial(
        augmentation.random_maps,
        rotation_degrees=s.rotation,
        shear_degrees=s.shear,
        scale_change=s.scale,
        shift_pixels=s.shift,
        elastic_pixels=s.elastic,
        control_points=s.control_points,
    )
    stack = ExitStack()
    warp = partial(augmentation.warp, mode=s.interpolation)
    values = {"EMA_RAMP": s.ema_ramp, "FINAL_STRENGTH": s.final_strength, "random_maps": maps, "warp": warp}
    stack.enter_context(patch.multiple(train, **values))
    stack.enter_context(patch.multiple(optimizer, WARM_UP=s.warm_up, BETAS=(optimizer.BETAS[0], s.beta2)))
    if s.schedule in SCHEDULES:
        stack.enter_context(patch.object(train, "learning_rate_at", SCHEDULES[s.schedule]))
    if s.initialisation in INITIALISATIONS:
        stack.enter_context(patch.object(train, "DigitCNN", INITIALISATIONS[s.initialisation]))
    if s.label_smoothing:
        loss = partial(F.cross_entropy, label_smoothing=s.label_smoothing)
        stack.enter_context(patch.object(train, "F", SimpleNamespace(cross_entropy=loss)))
    return stack
