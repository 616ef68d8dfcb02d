"""Train several settings with several seeds each, and compare them.

    python sweep.py learning_rate=0.003,0.01 augment=true,false --seeds 5 --epochs 3

Each run is one of train.py, with one thread, in runs/SETTING/seed-S; as many run at once as there are cores. What is
finished is not run again, what was interrupted is resumed: the same command continues a sweep.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from tqdm import tqdm

import train
from common.command_line import Parser, UserError, command, user_path
from common.files import FolderInUse, lock
from mnist.dataset import choose_dataset, load_data
from plot_results import results_markdown, write_results
from training.comparison import by_setting, read_runs
from training.config import TrainConfig, flag, parse_arguments
from training.run_files import describe_file, hash_code, load_checkpoint


def flags_of(text: str) -> list[str]:
    """Return train.py's flag for each value of NAME=VALUE,VALUE,...: --augment, --no-augment of augment=true,false."""
    name, _, values = text.partition("=")
    switches = {"true": flag(name), "false": flag(f"no_{name}")}
    return [switches.get(value.lower(), f"{flag(name)}={value}") for value in values.split(",")]


def name_of(config: TrainConfig) -> str:
    """Return what differs from the default, besides the seed: the name of the setting's folder."""
    default = asdict(TrainConfig(seed=config.seed))
    return ",".join(f"{name}={value}" for name, value in asdict(config).items() if value != default[name]) or "default"


def plan(settings: list[list[str]], seeds: int, output_dir: Path) -> tuple[dict[Path, list[str]], dict[Path, dict]]:
    """Return, for the folder of each run, train.py's flags and what decides its results. Raises UserError."""
    flags, wanted, code = {}, {}, hash_code()
    for setting in settings:
        args, recipe = parse_arguments(setting)
        dataset, warning = choose_dataset(recipe.get("dataset", "auto"), args.data_dir)
        print("" if recipe.get("dataset") == dataset else warning, end="", file=sys.stderr)
        config = replace(TrainConfig(**recipe), dataset=dataset)
        data = load_data(config, args.data_dir).description["md5"]
        init = describe_file(args.init)["md5"] if args.init else None
        for seed in range(seeds):
            folder = output_dir / name_of(config) / f"seed-{seed}"
            flags[folder] = [*setting, "--dataset", dataset, "--seed", str(seed)]
            wanted[folder] = {"config": asdict(replace(config, seed=seed)), "init": init, "data": data, "code": code}
    return flags, wanted


def epochs_done(folder: Path, wanted: dict) -> int:
    """Return how many epochs of a run are done. Raises UserError if the folder holds another run than wanted."""
    if not (folder / "last.pt").exists():
        return 0
    last = load_checkpoint(folder / "last.pt")
    found = {"config": last["config"], "code": last.get("code"), "data": last["dataset"]["md5"]}
    found["init"] = (last.get("init") or {}).get("md5")
    if differing := " and ".join(name for name in wanted if found[name] != wanted[name]):
        raise UserError(f"{folder} holds a run of another {differing}: choose another --output-dir, or delete it")
    return min(last["epoch"], rows(folder)) if (folder / "run.json").exists() else 0  # a crash may have cut it off


def rows(folder: Path) -> int:
    """Return how many epochs the metrics.csv in a folder has."""
    return (folder / "metrics.csv").read_bytes().count(b"\n") - 1 if (folder / "metrics.csv").exists() else 0


def run(folder: Path, flags: list[str], started: list[subprocess.Popen], stop: threading.Event) -> str:
    """Train or resume a run in a process of its own; return why it failed, or ""."""
    while not stop.is_set():
        with contextlib.suppress(FolderInUse), lock(folder):
            break
        time.sleep(1)  # a trainer that outlived a killed sweep
    if stop.is_set():
        return "stopped"
    command = [sys.executable, train.__file__, *flags, "--output-dir", str(folder), "--resume"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)
    started.append(process)
    errors = process.communicate()[1].strip().splitlines() or ["it was killed"]
    return errors[-1].removeprefix("train.py: error: ") if process.returncode else ""


def run_all(tasks: dict[Path, list[str]], jobs: int, epochs: int) -> dict[Path, str]:
    """Run each task, the flags of a folder, several at once; return why those failed that did. epochs is their sum."""
    started, stop = [], threading.Event()
    bar = tqdm(total=epochs, initial=sum(map(rows, tasks)), unit="epoch", smoothing=0, disable=None)
    with ThreadPoolExecutor(jobs) as pool, bar:
        futures = {folder: pool.submit(run, folder, flags, started, stop) for folder, flags in tasks.items()}
        try:
            while not all(future.done() for future in futures.values()):
                time.sleep(0.5)
                bar.update(sum(map(rows, tasks)) - bar.n)
        except KeyboardInterrupt as interrupt:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.terminate()
            interrupt.args = ("the same command continues the sweep",)
            raise
    return {folder: reason for folder, future in futures.items() if (reason := future.result())}


@command
def main(argv: list[str] | None = None) -> None:
    usage = (
        "sweep.py [NAME=VALUE,VALUE ...] [--seeds N] [--jobs N] [--from FILE] [--output-dir DIR] [flags of train.py]"
    )
    parser = Parser("sweep.py", usage=usage, description="Train and compare settings.", allow_abbrev=False)
    add = parser.add_argument
    add("--seeds", type=int, default=3, help="how many runs of each setting, with seeds 0, 1, ... (default: 3)")
    add("--from", dest="file", type=user_path, metavar="FILE", help="a file of settings, one to a line")
    add("--jobs", type=int, default=os.cpu_count(), help="how many runs at once (default: one for each core)")
    add("--output-dir", type=user_path, default=Path("runs"), help="(default: runs)")
    args, words = parser.parse_known_args(argv)
    settings = [word for word in words if "=" in word and not word.startswith("-")]
    passed_on = [word for word in words if word not in settings]  # to train.py
    if min(args.seeds, args.jobs) < 1 or {"--seed", "--resume", "seed"} & {word.split("=")[0] for word in words}:
        raise UserError("--seeds and --jobs must be at least 1; --seed and --resume are the sweep's own")
    lines = args.file.read_text(encoding="utf-8").splitlines() if args.file else [" ".join([*settings, "default"])]
    grids = [[flags_of(word) for word in line.split() if word != "default"] for line in lines if line.strip()]
    combinations = [[*passed_on, *combination] for grid in grids for combination in product(*grid)]
    flags, wanted = plan(combinations, args.seeds, args.output_dir)
    epochs = {folder: content["config"]["epochs"] for folder, content in wanted.items()}
    missing = [folder for folder in flags if epochs_done(folder, wanted[folder]) < epochs[folder]]
    missing.sort(key=lambda folder: wanted[folder]["config"]["seed"])  # first one run of each setting
    print(f"{len(flags)} runs in {args.output_dir}, {len(flags) - len(missing)} are finished, {args.jobs} at once")
    reasons = run_all({folder: flags[folder] for folder in missing}, args.jobs, sum(epochs[f] for f in missing))
    failures = {f"{folder.parent.name}, {folder.name}": reason for folder, reason in reasons.items()}
    groups = by_setting(run for folder in flags if folder not in reasons for run in read_runs(folder))
    if not groups:
        raise UserError(f"no run ended well: {'; '.join(set(reasons.values())) or f'{args.file} is empty'}")
    write_results(groups, markdown := results_markdown(groups, failures), args.output_dir)
    print(f"{markdown}\nWritten: {args.output_dir / 'results.md'}, {args.output_dir / 'curves.png'} and .svg")


if __name__ == "__main__":
    raise SystemExit(main())
