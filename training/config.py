"""The recipe of a run, and train.py's command line."""

from argparse import SUPPRESS, BooleanOptionalAction, Namespace
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common.command_line import Parser, UserError, number
from common.files import read_json


@dataclass(frozen=True)
class TrainConfig:
    """The recipe: all that decides the numbers of a run, besides machine, threads and versions."""

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-2  # of one-cycle: its peak
    weight_decay: float = 0.15  # decoupled: AdamW, https://arxiv.org/abs/1711.05101
    schedule: str = "one-cycle"  # https://arxiv.org/abs/1708.07120, linear: up for 20% of the steps, then down to 0
    ema_decay: float = 0.999  # of the exponential moving average of the weights; 0 turns it off
    augment: bool = True
    amp: bool = False  # automatic mixed precision: the network computes in bfloat16 while it trains
    seed: int = 0
    validation_size: int = 5000
    dataset: str = "mnist"


TEXTBOOK = {"learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "constant", "ema_decay": 0.0, "augment": False}


def parse_arguments(argv: list[str] | None) -> tuple[Namespace, dict]:
    """Return the flags, and those settings of the recipe that were given."""
    default, size = TrainConfig(), number(int, 1, 10**9)
    parser = Parser("train.py", description="Train the network on MNIST.")
    recipe = parser.add_argument_group("recipe", argument_default=SUPPRESS)
    add = recipe.add_argument
    add("--epochs", type=size, help=f"passes over the training images (default: {default.epochs})")
    add("--batch-size", type=size, help=f"images a step (default: {default.batch_size})")
    add("--learning-rate", type=number(float, 1e-12), help=f"one-cycle: its peak (default: {default.learning_rate})")
    add("--weight-decay", type=number(float, 0), help=f"decoupled (default: {default.weight_decay})")
    add("--schedule", choices=["one-cycle", "constant"], help=f"of the learning rate (default: {default.schedule})")
    add("--ema-decay", type=number(float, 0, 0.999999), help=f"of the averaged weights (default: {default.ema_decay})")
    add("--augment", action=BooleanOptionalAction, help="distort the training images at random (default: on)")
    add(
        "--amp",
        action=BooleanOptionalAction,
        help="bfloat16 in training, for CPUs with AVX512-BF16 and GPUs (default: off)",
    )
    add("--seed", type=number(int, 0, 2**63 - 1), help=f"of weights, order, augmentation (default: {default.seed})")
    add("--validation-size", type=size, help=f"training images held out (default: {default.validation_size})")
    add("--dataset", choices=["mnist", "synthetic"], help=f"synthetic: drawn from fonts (default: {default.dataset})")
    add = parser.add_argument
    add("--textbook", action="store_true", help="plain Adam at a constant rate of 0.001, nothing else")
    add("--data-dir", type=Path, default=Path("data"), help="where MNIST lies, or goes (default: data)")
    add("--output-dir", type=Path, default=Path("checkpoints"), help="for the files of the run (default: checkpoints)")
    add("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: auto)")
    add("--cuda-graph", action="store_true", help="replay the training step as a CUDA graph (not yet run on a GPU)")
    add("--resume", action="store_true", help="continue the run that lies in the output folder")
    args = parser.parse_args(argv)
    given = {field.name: getattr(args, field.name) for field in fields(TrainConfig) if field.name in args}
    return args, {**(TEXTBOOK if args.textbook else {}), **given}


def config_from(saved: dict) -> TrainConfig:
    """Return the recipe that a file holds. Raises UserError unless the flags can say each of its values."""
    names = [field.name for field in fields(TrainConfig)]
    if not isinstance(saved, dict) or set(saved) != set(names):
        raise UserError(f"its config is not {', '.join(names)}")
    flags = []
    for name, value in saved.items():
        name = name.replace("_", "-")
        flags.append(f"--{name}={value}" if not isinstance(value, bool) else f"--{name}" if value else f"--no-{name}")
    config = TrainConfig(**parse_arguments(flags)[1])
    if asdict(config) != saved:
        raise UserError("its config has values of other types")
    return config


def read_recipe(folder: Path) -> TrainConfig:
    """Return the recipe of the run in a folder. Raises UserError when its run.json can't be read or used."""
    run = read_json(folder / "run.json")
    try:
        return config_from(run.get("config"))
    except UserError as error:
        raise UserError(f"{folder / 'run.json'} is not what this version of train.py writes ({error})") from error


def check_resumable(saved: dict, settings: dict) -> None:
    """Raise UserError when settings were given that are not those of the saved run."""
    differences = [f"{name} is {saved[name]}, not {value}" for name, value in settings.items() if saved[name] != value]
    if differences:
        raise UserError(
            f"can't resume with other settings ({'; '.join(differences)}): leave them out, "
            "or start a new run without --resume"
        )
