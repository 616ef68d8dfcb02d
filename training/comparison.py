"""Read runs back from their folders, group them by setting, and compare them. Needs no PyTorch."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.command_line import UserError
from common.files import read_json
from training.config import TrainConfig, config_from
from training.metrics import EpochMetrics, best_epoch, read_metrics, summarize


class Run(NamedTuple):
    """A run: its recipe, its metrics, and what else decides its results."""

    folder: Path
    config: TrainConfig
    history: list[EpochMetrics]
    origin: dict[str, str]  # initial weights, data and program code, each by its MD5 or hash, or "" where unknown

    @property
    def setting(self) -> dict[str, Any]:
        """All that decides the results, besides the seed."""
        return {name: value for name, value in asdict(self.config).items() if name != "seed"} | self.origin


def read_run(folder: Path) -> Run:
    """Return the run in a folder. Raises UserError if it holds none."""
    history, content = read_metrics(folder / "metrics.csv"), read_json(folder / "run.json")
    config = config_from(content.get("config"), folder / "run.json")
    init, data = content.get("init") or "", content.get("dataset", {}).get("md5", {})
    origin = {
        "init": init["md5"][:8] if isinstance(init, dict) else init,  # older versions noted the path alone
        "data": "".join(md5[:2] for md5 in data.values()),
        "code": content.get("code", "")[:8],
    }
    return Run(folder, config, history, origin)


def by_setting(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the runs of each setting, named by what differs between the settings. Raises UserError.

    Runs of one setting must have different seeds and the same number of epochs. If more than three things differ, a
    name lists only those that differ from the default.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr(run.setting), []).append(run)
    settings = [group[0].setting for group in groups.values()]
    names = [name for name in (settings[0] if settings else []) if len({setting[name] for setting in settings}) > 1]
    for group in groups.values():
        if len({run.config.seed for run in group}) < len(group):
            twice = ", ".join(str(run.folder) for run in group)
            raise UserError(f"two of {twice} have the same seed and settings: give each run once")
        if len({len(run.history) for run in group}) > 1:
            unfinished = min(group, key=lambda run: len(run.history))
            raise UserError(
                f"{unfinished.folder} has {len(unfinished.history)} epochs, others have more: resume it first"
            )
    default = asdict(TrainConfig()) if len(names) > 3 else {}
    different = [[f"{name}={one[name]}" for name in names if one[name] != default.get(name)] for one in settings]
    return dict(zip([", ".join(texts) or "default" for texts in different], groups.values(), strict=True))


def differences(runs: list[Run], others: list[Run]) -> np.ndarray:
    """Return runs' lead over others in best.pt's validation accuracy, in percentage points, for each common seed."""
    ours, theirs = ({run.config.seed: best_epoch(run.history).validation_accuracy for run in r} for r in (runs, others))
    common = [seed for seed in ours if seed in theirs]
    return 100 * np.subtract(*(np.array([accuracies[seed] for seed in common], float) for accuracies in (ours, theirs)))


def mean_and_error(values: np.ndarray) -> str:
    """Format the mean of values with its standard error, if there are at least two."""
    if len(values) < 2:
        return f"{values[0]:+.2f}" if len(values) else "-"
    return f"{values.mean():+.2f} ± {values.std(ddof=1) / np.sqrt(len(values)):.2f}"


def comparison(groups: dict[str, list[Run]], failures: dict[str, str]) -> str:
    """Return a table with a row for each setting, and a line that says which is best by the validation images.

    Without validation images the settings stay in their order, and none is best. failures maps the name of each failed
    run to the reason.
    """
    fields = ["validation_accuracy", "validation_loss", "test_accuracy", "test_loss"]
    scores = {
        name: {field: [getattr(best_epoch(run.history), field) for run in runs] for field in fields}
        for name, runs in groups.items()
    }
    first, ranked, verdict = next(iter(groups)), list(groups), ""
    is_validated = not any(None in columns["validation_accuracy"] for columns in scores.values())
    if is_validated:
        ranked.sort(key=lambda name: np.mean(scores[name]["validation_loss"]))
        ranked.sort(key=lambda name: np.mean(scores[name]["validation_accuracy"]), reverse=True)
        verdict = "\n" + judge(groups, *ranked[:2]) if len(ranked) > 1 else ""
    else:
        verdict = "\nSome settings have no validation images, so no best one is named.\n"
    above = f"Points above {first if len(first) < 40 else 'the row with a dash'}"
    heading = ["Setting", "Runs", *(field.capitalize().replace("_", " ") for field in fields), above]
    rows = [heading, ["---", *["---:"] * (len(heading) - 1)]]
    for name in ranked:
        cells = [summarize(field, values) for field, values in scores[name].items()]
        above = mean_and_error(differences(groups[name], groups[first])) if is_validated and name != first else "-"
        rows.append([name, str(len(groups[name])), *cells, above])
    rows += [[name, f"failed: {reason}", *["-"] * (len(heading) - 2)] for name, reason in failures.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n" + verdict


def judge(groups: dict[str, list[Run]], best: str, second: str) -> str:
    """Say whether one setting is better than the next, by a t-test of the differences over the seeds that both have."""
    from scipy.stats import ttest_1samp  # half a second

    values = differences(groups[best], groups[second])
    if len(values) < 3 or not values.std():  # a t-test of two values says little, and equal ones have no spread
        return f"{best} has the best validation accuracy, perhaps by chance: train it and {second} with more seeds.\n"
    p = float(ttest_1samp(values, 0)[1])  # pyright: ignore[reportArgumentType]
    gap = f"{mean_and_error(values)} percentage points of validation accuracy ({len(values)} seeds, p = {p:.2g})"
    return f"{best} is {'better' if p < 0.05 else 'not clearly better'} than {second}: {gap}.\n"
