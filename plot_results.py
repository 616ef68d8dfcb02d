"""Make the results table and the curves of one run, or of several as mean and standard deviation.

python plot_results.py [RUN_DIR ...] [--output-dir results]
"""

from dataclasses import asdict, replace
from pathlib import Path

from common.command_line import Parser, UserError, command, user_path
from common.files import read_json, write_atomically
from training.config import TrainConfig, config_from
from training.metrics import EpochMetrics, describe_best, read_seeds, table_heading, table_row


def read_runs(folder: Path) -> list[tuple[TrainConfig, list[EpochMetrics]]]:
    """Return the recipe and the metrics of the run in a folder, or of all runs if it is one of results/.

    Raises UserError when the folder holds no run.
    """
    histories = read_seeds(folder / "metrics.csv")
    config = config_from(read_json(folder / "run.json").get("config"), folder / "run.json")
    return [(config if seed is None else replace(config, seed=seed), history) for seed, history in histories.items()]


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
    return "\n".join([describe(configs, histories), "", table_heading(), *rows, "", describe_best(histories), ""])


@command
def main(argv: list[str] | None = None) -> None:
    from training.charts import draw_curves  # here, as command() first takes care of Matplotlib's backend

    parser = Parser("plot_results.py", description="Make results.md and curves.png of runs of train.py.")
    parser.add_argument(
        "runs", type=user_path, nargs="*", metavar="RUN_DIR", help="folder of a run (default: checkpoints)"
    )
    parser.add_argument("--output-dir", type=user_path, default=Path("results"), help="(default: results)")
    args = parser.parse_args(argv)

    runs = [run for folder in args.runs or [Path("checkpoints")] for run in read_runs(folder)]
    configs, histories = [config for config, _ in runs], [history for _, history in runs]
    check_comparable(configs, histories)
    markdown = results_markdown(configs, histories)
    write_atomically(args.output_dir / "results.md", markdown)
    draw_curves(args.output_dir / "curves.png", histories, describe(configs, histories), markdown)
    print(f"{markdown}\nWritten: {args.output_dir / 'results.md'}, {args.output_dir / 'curves.png'}")


if __name__ == "__main__":
    raise SystemExit(main())
