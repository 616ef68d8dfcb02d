"""The recipes that recipe.py tries."""

from dataclasses import replace

from training.config import TEXTBOOK, TrainConfig

# One step at a time, from the textbook recipe to the default.
ABLATION = {"textbook": TrainConfig(**TEXTBOOK, elastic_pixels=0.0, final_strength=1.0)}
for name, field in {
    "+ one-cycle schedule": "schedule",
    "+ learning rate 0.01": "learning_rate",
    "+ weight decay": "weight_decay",
    "+ averaged weights": "ema_decay",
    "+ affine augmentation": "augment",
    "+ elastic augmentation": "elastic_pixels",
    "+ augmentation fades: the default": "final_strength",
}.items():
    ABLATION[name] = replace(list(ABLATION.values())[-1], **{field: getattr(TrainConfig(), field)})

CHANGES = {
    "default": TrainConfig(),
    "learning rate halved": TrainConfig(learning_rate=TrainConfig.learning_rate / 2),
    "learning rate doubled": TrainConfig(learning_rate=TrainConfig.learning_rate * 2),
    "batch size 64": TrainConfig(batch_size=64),
    "weight decay halved": TrainConfig(weight_decay=TrainConfig.weight_decay / 2),
    "weight decay doubled": TrainConfig(weight_decay=TrainConfig.weight_decay * 2),
    "no averaged weights": TrainConfig(ema_decay=0.0),
    "elastic augmentation alone": TrainConfig(
        rotation_degrees=0.0, shear_degrees=0.0, scale_change=0.0, shift_pixels=0.0
    ),
    "label smoothing 0.05": TrainConfig(label_smoothing=0.05),
    "no shift": TrainConfig(shift_pixels=0.0),
    "augmentation fades to a quarter": TrainConfig(final_strength=0.25),
    "elastic augmentation of 1.5 pixels": TrainConfig(elastic_pixels=1.5),
    "Adam's beta2 0.99": TrainConfig(beta2=0.99),
    "Adam's beta2 0.99, elastic augmentation of 1.5 pixels": TrainConfig(beta2=0.99, elastic_pixels=1.5),
    "averaged weights of 100 steps": TrainConfig(ema_decay=0.99),
    "no rotation": TrainConfig(rotation_degrees=0.0),
    "no scale": TrainConfig(scale_change=0.0),
    "no shear": TrainConfig(shear_degrees=0.0),
}

# What looked better than the default in three seeds, combinations of it, and a batch size between 64 and 128: of each,
# twenty more.
PROMISING = {name: CHANGES[name] for name in ("default", "Adam's beta2 0.99", "weight decay halved")} | {
    "batch size 96": TrainConfig(batch_size=96),
    "batch size 64": CHANGES["batch size 64"],
    "label smoothing 0.05": CHANGES["label smoothing 0.05"],
    "beta2 0.99, weight decay halved": TrainConfig(beta2=0.99, weight_decay=0.075),
    "beta2 0.99, batch size 64": TrainConfig(beta2=0.99, batch_size=64),
    "weight decay halved, batch size 64": TrainConfig(weight_decay=0.075, batch_size=64),
    "beta2 0.99, label smoothing 0.05": TrainConfig(beta2=0.99, label_smoothing=0.05),
}
