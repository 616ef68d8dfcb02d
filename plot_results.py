"""Make the results table and the curves of one run, or of several as mean and standard deviation.

python plot_results.py [RUN_DIR ...] [--output-dir results]
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from common.command_line import Parser, UserError, command
from common.figures import Axes, Figure, MaxNLocator, save_figure, without_tex
from common.files import read_json, write_atomically
from training.config import TrainConfig, config_from
from training.metrics import TABLE, EpochMetrics, best_epoch, format_value, markdown_row, read_metrics, table_heading

# (prefix of the columns, label, colour of the Okabe-Ito palette, line, marker): told apart in greyscale too
CURVES = [
    ("train", "training", "#E69F00", ":", "s"),
    ("validation", "validation", "#56B4E9", "--", "o"),
    ("test", "test", "#000000", "-", "^"),
]


def read_run(folder: Path) -> tuple[TrainConfig, list[EpochMetrics]]:
    """Return the recipe of a run and its metrics. Raises UserError when the folder holds no run."""
    history = read_metrics(folder / "metrics.csv")
    return config_from(read_json(folder / "run.json").get("config"), folder / "run.json"), history


def check_comparable(configs: list[TrainConfig], histories: list[list[EpochMetrics]]) -> None:
    """Raise UserError when the runs differ in more than their seeds, or when one is there twice."""
    recipes = [asdict(config) for config in configs]
    differing = [name for name in recipes[0] if name != "seed" and len({recipe[name] for recipe in recipes}) > 1]
    if len({len(history) for history in histories}) > 1:
        differing.append("epochs done")
    if differing:
        raise UserError(f"the runs differ in {', '.join(differing)}: a mean is of runs that differ in seed only")
    if len({config.seed for config in configs}) < len(configs):
        raise UserError("the same seed is there twice: name each run once")


def summarize(field: str, values: list[float]) -> str:
    """Format a value, or the mean and the standard deviation (of the sample) of several."""
    text = format_value(field, float(np.mean(values)))
    return f"{text} ± {format_value(field, float(np.std(values, ddof=1)))}" if len(values) > 1 else text


def describe(configs: list[TrainConfig], histories: list[list[EpochMetrics]]) -> str:
    """Say in one line what the numbers are of."""
    runs = f"seed {configs[0].seed}"
    if len(configs) > 1:
        seeds = [config.seed for config in configs]
        in_a_row = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds)))
        seeds = f"{seeds[0]} to {seeds[-1]}" if in_a_row else ", ".join(map(str, seeds))
        runs = f"mean ± standard deviation of {len(configs)} runs (seeds {seeds})"
    planned, done = configs[0].epochs, len(histories[0])
    epochs = f"{planned} epoch{'s' if planned > 1 else ''}"
    return f"{configs[0].dataset}, {epochs if done == planned else f'{done} of {epochs}'}, {runs}"


def results_markdown(configs: list[TrainConfig], histories: list[list[EpochMetrics]]) -> str:
    """Return results.md: what it is of, the table, a row an epoch, and the result of best.pt."""
    rows = [table_heading()]
    for epochs in zip(*histories, strict=True):  # the same epoch of every run
        cells = [summarize(field, [getattr(epoch, field) for epoch in epochs]) for field in list(TABLE.values())[1:]]
        rows.append(markdown_row([str(epochs[0].epoch), *cells]))
    best = [best_epoch(history) for history in histories]
    accuracy, loss = (summarize(f, [getattr(epoch, f) for epoch in best]) for f in ("test_accuracy", "test_loss"))
    epochs = ", ".join(str(epoch.epoch) for epoch in best)
    result = f"best.pt, chosen by validation accuracy (epoch {epochs}): test accuracy {accuracy}, test loss {loss}"
    return "\n".join([describe(configs, histories), "", *rows, "", result, ""])


@without_tex
def draw_curves(title: str, histories: list[list[EpochMetrics]]) -> Figure:
    """Draw loss and accuracy of all splits over the epochs, with bands of one standard deviation."""
    figure = Figure(figsize=(6, 8), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11, wrap=True)
    loss_axes, accuracy_axes = figure.subplots(2, sharex=True)
    loss_axes.set(yscale="log", ylabel="loss (nats per image)")
    # Like a logarithmic axis of the error, so that 99% and 99.5% can be told apart; finite at 100%.
    accuracy_axes.set_yscale(
        "function", functions=(lambda a: -np.log10(np.maximum(1.0005 - a, 1e-4)), lambda y: 1.0005 - 10**-y)
    )
    accuracy_axes.set(xlabel="epoch", ylabel="accuracy")
    draw_panel(loss_axes, histories, "loss")
    draw_panel(accuracy_axes, histories, "accuracy")

    set_ticks(loss_axes, [digit * 10.0**power for power in range(-7, 2) for digit in (1, 2, 5)], "{:g}")
    set_ticks(accuracy_axes, [0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 1], "{:.1%}")
    loss_axes.legend(fontsize=11)
    accuracy_axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def draw_panel(axes: Axes, histories: list[list[EpochMetrics]], quantity: str) -> None:
    """Draw one quantity, "loss" or "accuracy", of the three splits."""
    epochs = [epoch.epoch for epoch in histories[0]]
    for prefix, label, color, line, marker in CURVES:
        values = np.array([[getattr(epoch, f"{prefix}_{quantity}") for epoch in history] for history in histories])
        mean = values.mean(axis=0)  # (runs, epochs) -> (epochs,)
        axes.plot(epochs, mean, line, marker=marker, markersize=5, color=color, label=label)
        if len(histories) > 1:
            deviation = values.std(axis=0, ddof=1)
            axes.fill_between(epochs, mean - deviation, mean + deviation, color=color, alpha=0.25, linewidth=0)
    axes.grid(alpha=0.3)


def set_ticks(axes: Axes, values: list[float], text: str) -> None:
    """Label those values that lie within the axis."""
    low, high = axes.get_ylim()
    inside = [value for value in values if low <= value <= high]
    axes.set_yticks(inside, [text.format(value) for value in inside])
    axes.minorticks_off()


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("plot_results.py", description="Make results.md and curves.png of runs of train.py.")
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN_DIR", help="folders of runs (default: checkpoints)")
    parser.add_argument("--output-dir", type=Path, default=Path("results"), help="(default: results)")
    args = parser.parse_args(argv)

    configs, histories = zip(*map(read_run, args.runs or [Path("checkpoints")]), strict=True)
    check_comparable(configs, histories)
    markdown = results_markdown(configs, histories)
    write_atomically(args.output_dir / "results.md", markdown)
    # The picture carries the table as text, so that they can be compared.
    metadata = {"Software": None, "Description": markdown}
    save_figure(draw_curves(describe(configs, histories), histories), args.output_dir / "curves.png", metadata)
    print(f"{markdown}\nWritten: {args.output_dir / 'results.md'}, {args.output_dir / 'curves.png'}")


if __name__ == "__main__":
    raise SystemExit(main())
