"""The recipe of a run: every number that decides its result, and train.py's flags for them."""

from argparse import SUPPRESS, ArgumentTypeError, BooleanOptionalAction, Namespace
from dataclasses import dataclass, fields
from pathlib import Path

from common.command_line import Parser, UserError


@dataclass(frozen=True)
class TrainConfig:
    """All that decides a run's numbers, besides machine, threads, versions. Raises UserError for one out of range."""

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-2  # of one-cycle: its peak
    weight_decay: float = 0.15  # decoupled: AdamW, https://arxiv.org/abs/1711.05101; with 0 it is Adam
    schedule: str = "one-cycle"  # linear up, then linear down to 0, https://arxiv.org/abs/1708.07120; or "constant"
    warm_up: float = 0.2  # of one-cycle: the fraction of the run in which the learning rate rises
    beta1: float = 0.9  # of AdamW: decay of the gradient's first moment
    beta2: float = 0.999  # and of its second moment
    ema_decay: float = 0.999  # of the exponential moving average of the weights; 0 turns it off
    ema_ramp: int = 10  # the average starts short: after n steps its decay is at most (1 + n) / (ema_ramp + n)
    label_smoothing: float = 0.0
    augment: bool = True
    rotation_degrees: float = 10.0  # augmentation: each amount is uniform between minus and plus its limit
    shear_degrees: float = 10.0
    scale_change: float = 0.1  # a scale from 0.9 to 1.1
    shift_pixels: float = 2.0
    elastic_pixels: float = 1.0  # standard deviation of the control points' displacements
    control_points: int = 4  # along either side of the image
    final_strength: float = 0.5  # a factor of all limits; it falls linearly from 1 to this over the run
    amp: bool = False  # automatic mixed precision: the network computes in bfloat16 while it trains
    seed: int = 0
    validation_size: int = 5000
    dataset: str = "mnist"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            lowest, limit = int(name in COUNTS), LIMITS.get(name, 1e18)
            if not isinstance(value, str) and not lowest <= value < limit:  # true of NaN, too
                raise UserError(f"{name} must be at least {lowest} and less than {limit:g}, not {value}")


COUNTS = ("epochs", "batch_size", "ema_ramp", "control_points", "validation_size")
FRACTIONS = ("warm_up", "beta1", "beta2", "ema_decay", "label_smoothing", "scale_change")
LIMITS = {**dict.fromkeys(FRACTIONS, 1), "control_points": 29}  # pixels: no finer than the image

TEXTBOOK = {"learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "constant", "ema_decay": 0.0, "augment": False}


def parse_arguments(argv: list[str] | None) -> tuple[Namespace, dict]:
    """Return train.py's flags, and those settings of the recipe that were given. Raises UserError."""
    default = TrainConfig()
    parser = Parser("train.py", description="Train the network on MNIST.")
    add = parser.add_argument_group("recipe", argument_default=SUPPRESS).add_argument
    add("--epochs", type=int, help=f"passes over the training images (default: {default.epochs})")
    add("--batch-size", type=int, help=f"images in a step (default: {default.batch_size})")
    add("--learning-rate", type=float, help=f"one-cycle: its peak (default: {default.learning_rate})")
    add("--weight-decay", type=float, help=f"decoupled (default: {default.weight_decay})")
    add("--schedule", choices=["one-cycle", "constant"], help=f"(default: {default.schedule})")
    add("--ema-decay", type=float, help=f"of the averaged weights; 0: no average (default: {default.ema_decay})")
    add("--augment", action=BooleanOptionalAction, help="distort the training images at random (default: on)")
    add("--amp", action=BooleanOptionalAction, help="bfloat16, faster on CPUs with AVX512-BF16 (default: off)")
    add("--seed", type=int, help=f"of weights, order, augmentation (default: {default.seed})")
    add("--validation-size", type=int, help=f"training images held out (default: {default.validation_size})")
    add = parser.add_argument
    add("--textbook", action="store_true", help="plain Adam at a constant rate of 0.001, nothing else")
    add("--set", type=setting, action="append", default=[], metavar="NAME=VALUE", help="any field of TrainConfig")
    add("--dataset", default="auto", help="mnist, synthetic, or auto: MNIST if it is available (default: auto)")
    add("--data-dir", type=Path, default=Path("data"), help="of the data sets (default: data)")
    add("--output-dir", type=Path, default=Path("checkpoints"), help="of the run's files (default: checkpoints)")
    add("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: auto)")
    add("--init", type=Path, metavar="FILE", help="start from these weights: a checkpoint, or a state_dict")
    add("--resume", action="store_true", help="continue the run that lies in the output folder")
    args = parser.parse_args(argv)
    given = {field.name: getattr(args, field.name) for field in fields(TrainConfig) if field.name in args}
    if args.dataset == "auto":
        del given["dataset"]  # a recipe names the data set that is used, which is not known yet
    settings = {**(TEXTBOOK if args.textbook else {}), **given, **dict(args.set)}
    TrainConfig(**settings)  # raises if a value is out of range
    return args, settings


def setting(text: str) -> tuple[str, object]:
    """Return the name and the value of a setting that is given as NAME=VALUE. Raises ArgumentTypeError."""
    name, _, value = text.partition("=")
    types = {field.name: type(field.default) for field in fields(TrainConfig)}
    if name not in types:
        raise ArgumentTypeError(f"{name!r} is not one of {', '.join(types)}")
    try:
        return name, {"true": True, "false": False}[value.lower()] if types[name] is bool else types[name](value)
    except (KeyError, ValueError):
        raise ArgumentTypeError(f"{name} must be of type {types[name].__name__}, not {value!r}") from None


def config_from(saved: dict, path: Path) -> TrainConfig:
    """Return the recipe that the file at path holds; what an older file lacks takes its default. Raises UserError."""
    try:
        return TrainConfig(**saved)
    except TypeError as error:  # an unknown setting, or no recipe at all
        raise UserError(f"{path} is of another version of train.py ({error})") from error
