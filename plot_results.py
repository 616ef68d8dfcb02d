"""Make the results table and the curves of a run, of runs with several seeds, or of several settings side by side.

python plot_results.py [RUN_DIR ...] [--output-dir results]
"""

from pathlib import Path

from common.command_line import Parser, command, user_path
from common.files import write_atomically
from training.comparison import Run, by_setting, comparison, read_run
from training.metrics import describe_best, table_heading, table_row


def describe(groups: dict[str, list[Run]]) -> str:
    """Say in one line which runs the numbers come from."""
    runs = next(iter(groups.values()))
    config, done, seeds = runs[0].config, len(runs[0].history), [run.config.seed for run in runs]
    epochs = f"{config.epochs} epoch{'s' if config.epochs > 1 else ''}"
    what = f"{config.dataset}, {epochs if done == config.epochs else f'{done} of {epochs}'}"
    if len(groups) > 1:
        others = {(runs[0].config.dataset, runs[0].config.epochs) for runs in groups.values()}
        common = f"{what}, " if len(others) == 1 else ""  # else the names of the settings contain it
        return f"{common}{len(groups)} settings, best.pt of each run: mean ± standard deviation over seeds"
    if len(runs) == 1:
        return f"{what}, seed {seeds[0]}"
    in_a_row = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    named = f"{seeds[0]} to {seeds[-1]}" if in_a_row else ", ".join(map(str, seeds))
    return f"{what}, mean ± standard deviation of {len(runs)} runs (seeds {named})"


def runs_in(folder: Path) -> list[Path]:
    """Return the folder itself if it holds a run, else the folders of all runs of the sweep in it."""
    runs = [] if (folder / "metrics.csv").exists() else [path.parent for path in folder.rglob("seed-*/metrics.csv")]
    return sorted(runs, key=lambda run: (run.parent, len(run.name), run.name)) or [folder]


def results_markdown(groups: dict[str, list[Run]], failures: dict[str, str] | None = None) -> str:
    """Return results.md: for one setting a row per epoch and the result of best.pt, for several a row per setting.

    failures maps the name of each failed run to the reason.
    """
    if len(groups) > 1 or failures:
        return f"{describe(groups)}\n\n{comparison(groups, failures or {})}"
    histories = [run.history for runs in groups.values() for run in runs]
    rows = map(table_row, *histories)  # each has the same epoch of every run
    return "\n".join([describe(groups), "", table_heading(), *rows, "", describe_best(histories), ""])


def write_results(groups: dict[str, list[Run]], markdown: str, folder: Path) -> str:
    """Write results.md, and curves.png and curves.svg, to a folder; return a line that names them."""
    from training.charts import draw_curves  # here, after command() has unset MPLBACKEND

    write_atomically(folder / "results.md", markdown)
    settings = {name: [run.history for run in runs] for name, runs in groups.items()}
    draw_curves(folder / "curves.png", settings, describe(groups), markdown)
    return "Written: " + ", ".join(str(folder / name) for name in ("results.md", "curves.png", "curves.svg"))


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("plot_results.py", description="Make results.md and curves.png from runs of train.py.")
    parser.add_argument("runs", type=user_path, nargs="*", metavar="RUN_DIR", help="folder of a run, or of a sweep")
    parser.add_argument("--output-dir", type=user_path, default=Path("results"), help="(default: results)")
    args = parser.parse_args(argv)

    folders = [path for folder in args.runs or [Path("checkpoints")] for path in runs_in(folder)]
    groups = by_setting(map(read_run, folders))
    print(markdown := results_markdown(groups))
    print(write_results(groups, markdown, args.output_dir))


if __name__ == "__main__":
    raise SystemExit(main())
