"""Make the results table and the curves of a run, of runs with several seeds, or of several settings side by side.

python plot_results.py [RUN_DIR ...] [--output-dir results]
"""

from pathlib import Path

from common.command_line import Parser, command, user_path
from common.files import write_atomically
from training.comparison import Run, by_setting, comparison, read_runs
from training.metrics import describe_best, table_heading, table_row


def describe(runs: list[Run]) -> str:
    """Say in one line what the numbers of a setting are of."""
    config, histories = runs[0].config, [run.history for run in runs]
    seeds = [run.config.seed for run in runs]
    text = f"seed {seeds[0]}"
    if len(runs) > 1:
        in_a_row = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds)))
        named = f"{seeds[0]} to {seeds[-1]}" if in_a_row else ", ".join(map(str, seeds))
        text = f"mean ± standard deviation of {len(runs)} runs (seeds {named})"
    planned, done = config.epochs, len(histories[0])
    epochs = f"{planned} epoch{'s' if planned > 1 else ''}"
    return f"{config.dataset}, {epochs if done == planned else f'{done} of {epochs}'}, {text}"


def describe_common(settings: list[list[Run]]) -> str:
    """Return data set and number of epochs if all settings have the same, else "", as their names say it."""
    common = {(runs[0].config.dataset, runs[0].config.epochs) for runs in settings}
    if len(common) > 1:
        return ""
    ((dataset, epochs),) = common
    return f"{dataset}, {epochs} epoch{'s' if epochs > 1 else ''}, "


def results_markdown(groups: dict[str, list[Run]], failures: dict[str, str] | None = None) -> str:
    """Return results.md: of one setting a row an epoch and the result of best.pt, of several a row each.

    failures are the runs that failed, by their names, with the reason.
    """
    settings = list(groups.values())
    if len(settings) > 1 or failures:
        what = "best.pt of each run: mean ± standard deviation over the seeds of a setting"
        return f"{describe_common(settings)}{what}\n\n{comparison(groups, failures or {})}"
    histories = [run.history for run in settings[0]]
    rows = map(table_row, *histories)  # each has the same epoch of every run
    return "\n".join([describe(settings[0]), "", table_heading(), *rows, "", describe_best(histories), ""])


def write_results(groups: dict[str, list[Run]], markdown: str, folder: Path) -> None:
    """Write results.md, and curves.png and curves.svg, to a folder."""
    from training.charts import draw_curves  # here, as command() first takes care of Matplotlib's backend

    write_atomically(folder / "results.md", markdown)
    settings = {name: [run.history for run in runs] for name, runs in groups.items()}
    title = (
        describe(next(iter(groups.values())))
        if len(groups) == 1
        else f"{len(groups)} settings{', the first eight' * (len(groups) > 8)}"
    )
    draw_curves(folder / "curves.png", settings, title, markdown)


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("plot_results.py", description="Make results.md and curves.png of runs of train.py.")
    parser.add_argument("runs", type=user_path, nargs="*", metavar="RUN_DIR", help="folder of a run")
    parser.add_argument("--output-dir", type=user_path, default=Path("results"), help="(default: results)")
    args = parser.parse_args(argv)

    groups = by_setting(run for folder in args.runs or [Path("checkpoints")] for run in read_runs(folder))
    write_results(groups, markdown := results_markdown(groups), args.output_dir)
    written = ", ".join(str(args.output_dir / name) for name in ("results.md", "curves.png", "curves.svg"))
    print(f"{markdown}\nWritten: {written}")


if __name__ == "__main__":
    raise SystemExit(main())
