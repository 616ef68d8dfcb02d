"""Train several settings with several seeds each, and compare them. To continue a sweep, run the same command again.

python sweep.py learning_rate=0.003,0.01 augment=true,false --seeds 5 --epochs 3
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from tqdm import tqdm

import train
from common.command_line import Parser, UserError, command, shows_progress, user_path
from common.files import FolderInUse, lock, read_json
from mnist.dataset import choose_dataset, load_data
from plot_results import results_markdown, write_results
from training.comparison import by_setting, read_run
from training.config import TrainConfig, flag, parse_arguments
from training.run_files import describe_file, hash_code, load_checkpoint


def flags_of(text: str) -> list[str]:
    """Return train.py's flags for NAME=VALUE,VALUE,...: --augment and --no-augment for augment=true,false."""
    name, _, values = text.partition("=")
    if name == "seed" or name not in asdict(TrainConfig()):
        raise UserError(f"{text!r} is not a setting: write NAME=VALUE without spaces, as in learning_rate=0.003,0.01")
    switches = {"true": flag(name), "false": flag(f"no_{name}")}
    return [switches.get(value.lower(), f"{flag(name)}={value}") for value in values.split(",")]


def combinations(words: list[str], passed_on: list[str]) -> list[list[str]]:
    """Return train.py's flags for each combination of the words' values, with the flags in passed_on added to each."""
    grid = [flags_of(word) for word in words if word != "default"]
    names = [flags[0].replace("--no-", "--").split("=")[0] for flags in [*grid, *([word] for word in passed_on)]]
    if twice := {name for name in names if name.startswith("--") and names.count(name) > 1}:
        raise UserError(f"given twice: {', '.join(twice)}; write all values of a setting in one NAME=VALUE,VALUE")
    return [[*passed_on, *flags] for flags in product(*grid)]


def name_of(config: TrainConfig) -> str:
    """Return the name of a setting's folder: what differs from the default, apart from the seed."""
    default = asdict(TrainConfig(seed=config.seed))
    return ",".join(f"{name}={value}" for name, value in asdict(config).items() if value != default[name]) or "default"


def plan(settings: list[list[str]], seeds: int, output_dir: Path) -> dict[Path, tuple[list[str], dict]]:
    """Return a dict from each run's folder to train.py's flags and to what decides its results. Raises UserError."""
    runs, code = {}, hash_code()
    for setting in settings:
        args, recipe = parse_arguments(setting)
        dataset, warning = choose_dataset(recipe.get("dataset", "auto"), args.data_dir)
        print("" if recipe.get("dataset") == dataset else warning, end="", file=sys.stderr)
        config = replace(TrainConfig(**recipe), dataset=dataset)
        data = load_data(config, args.data_dir).description["md5"]
        init = describe_file(args.init) if args.init else None
        for seed in range(seeds):
            flags = [*setting, "--dataset", dataset, "--seed", str(seed)]
            wanted = {"config": asdict(replace(config, seed=seed)), "init": init, "data": data, "code": code}
            runs[output_dir / name_of(config) / f"seed-{seed}"] = flags, wanted
    return runs


def is_finished(folder: Path, wanted: dict) -> bool:
    """Return whether a run is finished. Raises UserError if the folder holds a different run."""
    if not (folder / "last.pt").exists():
        return False
    last = load_checkpoint(folder / "last.pt")
    found = {name: last.get(name) for name in ("config", "init", "code")} | {"data": last["dataset"]["md5"]}
    if differing := " and ".join(name for name in wanted if found[name] != wanted[name]):
        what = f"{folder} holds a run with a different {differing}"
        raise UserError(f"{what}: delete that folder, or choose another --output-dir")
    is_whole = (folder / "run.json").exists() and read_json(folder / "run.json")["seconds"] == last["seconds"]
    return is_whole and last["epoch"] == wanted["config"]["epochs"]  # run.json is the last file that an epoch writes


def run(folder: Path, flags: list[str], started: list[subprocess.Popen], stop: threading.Event) -> str:
    """Train or resume a run in a process of its own; return why it failed, or ""."""
    while not stop.is_set():
        with contextlib.suppress(FolderInUse), lock(folder):
            break
        time.sleep(1)  # a killed sweep may have left a train.py running in this folder: wait for it
    if stop.is_set():
        return "stopped"
    command = [sys.executable, train.__file__, *flags, "--output-dir", str(folder), "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    started.append(process)
    errors = process.communicate()[1].strip().splitlines() or ["it was killed"]
    return errors[-1].removeprefix("train.py: error: ") if process.returncode else ""


def run_all(tasks: dict[Path, list[str]], jobs: int) -> dict[Path, str]:
    """Run train.py for each folder with its flags, several at once; return the reason for each run that failed."""
    started, stop = [], threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {folder: pool.submit(run, folder, flags, started, stop) for folder, flags in tasks.items()}
        try:
            list(tqdm(as_completed(futures.values()), total=len(tasks), unit="run", disable=not shows_progress()))
        except KeyboardInterrupt as interrupt:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.terminate()
            interrupt.args = ("run the same command again to continue the sweep",)
            raise
    return {folder: reason for folder, future in futures.items() if (reason := future.result())}


@command
def main(argv: list[str] | None = None) -> None:
    usage = "sweep.py NAME=VALUE,VALUE ... [--seeds N] [--jobs N] [--from FILE] [--output-dir DIR] [flags of train.py]"
    parser = Parser("sweep.py", usage=usage, description="Train and compare settings.", allow_abbrev=False)
    add = parser.add_argument
    add("--seeds", type=int, default=3, help="how many runs of each setting, with seeds 0, 1, ... (default: 3)")
    add("--from", dest="file", type=user_path, metavar="FILE", help="file: on each line a setting or the word default")
    add("--jobs", type=int, default=os.cpu_count(), help="how many runs at the same time (default: one for each core)")
    add("--output-dir", type=user_path, default=Path("runs"), help="(default: runs)")
    args, words = parser.parse_known_args(argv)
    if min(args.seeds, args.jobs) < 1 or {"--seed", "--resume"} & {word.split("=")[0] for word in words}:
        raise UserError("--seeds and --jobs must be at least 1; leave out --seed and --resume: a sweep sets them")
    given = [word for word in words if "=" in word and not word.startswith("-")]
    passed_on = [word for word in words if word not in given]  # to train.py
    if args.file and given:
        raise UserError(f"write the settings into {args.file} or into the command, not into both")
    lines = args.file.read_text(encoding="utf-8").splitlines() if args.file else ["default " + " ".join(given)]
    words = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    runs = plan([flags for line in words for flags in combinations(line, passed_on)], args.seeds, args.output_dir)
    missing = [folder for folder, (_, wanted) in runs.items() if not is_finished(folder, wanted)]
    missing.sort(key=lambda folder: runs[folder][1]["config"]["seed"])  # start with one run of each setting
    print(f"{len(runs)} runs in {args.output_dir}, {len(runs) - len(missing)} are finished; {args.jobs} at a time")
    failed = run_all({folder: runs[folder][0] for folder in missing}, args.jobs)
    groups = by_setting(read_run(folder) for folder in runs if folder not in failed)
    if not groups:
        raise UserError(f"no run succeeded: {'; '.join(set(failed.values())) or f'{args.file} has no settings'}")
    failures = {f"{folder.parent.name}, {folder.name}": reason for folder, reason in failed.items()}
    if failures:  # by_setting saw only the successful runs, and may have left out what differs
        groups = {group[0].folder.parent.name: group for group in groups.values()}
    print(markdown := results_markdown(groups, failures))
    print(write_results(groups, markdown, args.output_dir))


if __name__ == "__main__":
    raise SystemExit(main())
