"""The recipe of a run, every setting that decides its result, and train.py's flags, one for each setting."""

from argparse import SUPPRESS, BooleanOptionalAction, Namespace
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from common.command_line import Parser, UserError, user_path


def setting(default: object, text: str, low: int = 0, below: float = 1e18, choices: tuple[str, ...] = ()) -> Any:
    """Declare a field of TrainConfig: its default, its help, and its choices, or the range low <= value < below."""
    return field(default=default, metadata={"help": text, "low": low, "below": below, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run's numbers, except machine, threads and versions. Raises UserError."""

    epochs: int = setting(10, "passes over the images; the schedule spans all of them", low=1)
    batch_size: int = setting(128, "images per step, across all processes", low=1)
    learning_rate: float = setting(0.01, "peak of the one-cycle schedule, or the constant learning rate")
    weight_decay: float = setting(0.15, "decoupled, as in AdamW (https://arxiv.org/abs/1711.05101); 0 gives plain Adam")
    schedule: str = setting("one-cycle", "one-cycle (rises, then falls) or constant", choices=("one-cycle", "constant"))
    warm_up: float = setting(0.2, "fraction of the run during which one-cycle's learning rate rises", below=1)
    beta1: float = setting(0.9, "AdamW's decay rate for the gradient's first moment", below=1)
    beta2: float = setting(0.999, "AdamW's decay rate for the gradient's second moment", below=1)
    ema_decay: float = setting(0.999, "maximum decay of the weights' moving average (EMA); 0 turns it off", below=1)
    ema_ramp: int = setting(10, "at step n, counted from 0, the EMA's decay is at most (1 + n) / (ramp + n)", low=1)
    label_smoothing: float = setting(0.0, "share of the target that is spread equally over all classes", below=1)
    augment: bool = setting(True, "distort the training images at random")
    rotation_degrees: float = setting(10.0, "largest random rotation, in either direction")
    shear_degrees: float = setting(10.0, "largest random shear, in either direction")
    scale_change: float = setting(0.1, "largest random change of scale, separately for width and height", below=1)
    shift_pixels: float = setting(2.0, "largest random shift, along each axis")
    elastic_pixels: float = setting(1.0, "elastic distortion: standard deviation of each control point's move")
    control_points: int = setting(4, "elastic distortion: control points along each side", low=1, below=29)
    final_strength: float = setting(0.5, "augmentation fades linearly to this fraction over the run")
    amp: bool = setting(False, "train in bfloat16 (automatic mixed precision); faster on CPUs with AVX512-BF16 or AMX")
    seed: int = setting(0, "random seed for initial weights, image order and augmentation")
    validation_size: int = setting(5000, "how many of the last training images to hold out; 0 trains on all")
    dataset: str = setting("mnist", "mnist, synthetic, or auto: MNIST if available, otherwise synthetic digits")

    def __post_init__(self) -> None:
        for each in fields(self):
            value, kind, rule = getattr(self, each.name), type(each.default), each.metadata
            if type(value) is not kind and not (kind is float and type(value) is int):
                wanted = f"of type {kind.__name__}"
            elif rule["choices"] and value not in rule["choices"]:
                wanted = " or ".join(rule["choices"])
            elif kind in (int, float) and not rule["low"] <= value < rule["below"]:  # true of NaN, too
                wanted = f"at least {rule['low']}" if value < rule["low"] else f"less than {rule['below']:g}"
            else:
                continue
            raise UserError(f"{flag(each.name)} must be {wanted}, not {value!r}")


TEXTBOOK = {"learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "constant", "ema_decay": 0.0, "augment": False}


def flag(name: str) -> str:
    """Return train.py's flag for a field of TrainConfig."""
    return f"--{name.replace('_', '-')}"


def parse_arguments(argv: list[str] | None) -> tuple[Namespace, dict]:
    """Return train.py's flags, and those settings of the recipe that were given. Raises UserError."""
    parser = Parser("train.py", description="Train the network on MNIST.")
    recipe = parser.add_argument_group("recipe", argument_default=SUPPRESS)
    for each in fields(TrainConfig):
        default = "auto" if each.name == "dataset" else each.default
        options: dict[str, Any] = {"type": type(default)}
        if type(default) is bool:
            options, default = {"action": BooleanOptionalAction}, "on" if default else "off"
        recipe.add_argument(flag(each.name), **options, help=f"{each.metadata['help']} (default: {default})")
    add = parser.add_argument
    add("--textbook", action="store_true", help="plain Adam at a constant 0.001: no schedule, EMA or augmentation")
    add("--data-dir", type=user_path, default=Path("data"), help="folder of the data sets (default: data)")
    add("--output-dir", type=user_path, default=Path("checkpoints"), help="for the run's files (default: checkpoints)")
    add("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: auto, an accelerator if there is one)")
    add("--init", type=user_path, metavar="FILE", help="start from these weights: a checkpoint, or a state_dict")
    add("--resume", action="store_true", help="continue the run in the output folder, with the settings of that run")
    args = parser.parse_args(argv)
    given = {each.name: getattr(args, each.name) for each in fields(TrainConfig) if each.name in args}
    if given.get("dataset") == "auto":
        del given["dataset"]  # a recipe names the data set that is used, which is not known yet
    settings = {**(TEXTBOOK if args.textbook else {}), **given}
    TrainConfig(**settings)  # raises for a wrong value
    return args, settings


def config_from(saved: Any, path: Path) -> TrainConfig:
    """Return the recipe that the file at path holds; missing settings get their defaults. Raises UserError."""
    try:
        return TrainConfig(**saved)
    except (TypeError, UserError) as error:  # an unknown setting, a wrong value, or no recipe at all
        advice = "use the version that wrote it"
        raise UserError(f"{path} was written by another version of train.py ({error}): {advice}") from error
