"""Make the results table and the curves of one run, or of several as mean and standard deviation.

python plot_results.py [RUN_DIR ...] [--output-dir results]
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from common.command_line import Parser, UserError, command
from common.figures import Figure, save_figure, without_tex
from common.files import read_json, write_atomically
from training.config import TrainConfig, config_from
from training.metrics import EpochMetrics, best_epoch, read_metrics, summarize, table_heading, table_row

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
    runs = [{**asdict(config), "epochs done": len(h)} for config, h in zip(configs, histories, strict=True)]
    differing = [name for name in runs[0] if name != "seed" and len({run[name] for run in runs}) > 1]
    if differing:
        raise UserError(f"the runs differ in {', '.join(differing)}: a mean is of runs that differ in seed only")
    if len({run["seed"] for run in runs}) < len(runs):
        raise UserError("the same seed is there twice: name each run once")


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
    rows = map(table_row, *histories)  # each has the same epoch of every run
    best = [best_epoch(history) for history in histories]
    accuracy, loss = (summarize(f, [getattr(epoch, f) for epoch in best]) for f in ("test_accuracy", "test_loss"))
    lowest = f" (lowest {min(epoch.test_accuracy for epoch in best):.2%})" if len(best) > 1 else ""
    earliest, latest = min(epoch.epoch for epoch in best), max(epoch.epoch for epoch in best)
    epochs = f"epoch {latest}" if earliest == latest else f"epochs {earliest} to {latest}"
    scores = f"test accuracy {accuracy}{lowest}, test loss {loss}"
    result = f"best.pt, chosen by validation accuracy ({epochs}): {scores}"
    return "\n".join([describe(configs, histories), "", table_heading(), *rows, "", result, ""])


@without_tex
def draw_curves(title: str, histories: list[list[EpochMetrics]]) -> Figure:
    """Draw loss and error of all splits over the epochs, with bands of one standard deviation."""
    figure = Figure(figsize=(6, 8), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11, wrap=True)
    epochs = [epoch.epoch for epoch in histories[0]]
    labels = {"loss": "loss (nats per image)", "accuracy": "error rate (%)"}
    for axes, quantity in zip(figure.subplots(2, sharex=True), labels, strict=True):
        for prefix, split, color, line, marker in CURVES:
            values = np.array([[getattr(epoch, f"{prefix}_{quantity}") for epoch in history] for history in histories])
            if quantity == "accuracy":
                values = 100 * np.maximum(1 - values, 1e-4)  # a logarithmic axis has no 0: no error is 0.01%
            mean = values.mean(axis=0)  # (runs, epochs) -> (epochs,)
            axes.plot(epochs, mean, line, marker=marker, markersize=5, color=color, label=split)
            if len(histories) > 1:
                deviation = values.std(axis=0, ddof=1)
                axes.fill_between(epochs, mean - deviation, mean + deviation, color=color, alpha=0.25, linewidth=0)
        axes.set_yscale("log", subs=[2, 5])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_ylabel(labels[quantity])
        axes.grid(which="both", alpha=0.3)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    figure.axes[0].legend(fontsize=11)
    return figure


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
    metadata = {"Software": None, "Description": markdown}  # the table, so that it can be compared with the picture
    save_figure(draw_curves(describe(configs, histories), histories), args.output_dir / "curves.png", metadata)
    print(f"{markdown}\nWritten: {args.output_dir / 'results.md'}, {args.output_dir / 'curves.png'}")


if __name__ == "__main__":
    raise SystemExit(main())
