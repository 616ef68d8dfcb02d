import json
import math
import re
from dataclasses import asdict

import pytest
from conftest import REPOSITORY

import plot_results
from training.charts import draw_curves
from training.comparison import Run, by_setting
from training.config import TrainConfig
from training.metrics import EpochMetrics, metrics_csv


def write_run(folder, seed=0, dataset="mnist", test_accuracies=(0.98, 0.99), epochs=2):
    history = [
        EpochMetrics(i + 1, 1e-3, 0.1, 0.97, 0.05 / (i + 1), 0.98 + i / 100, 0.04, accuracy, 3.0)
        for i, accuracy in enumerate(test_accuracies)
    ]
    folder.mkdir()
    (folder / "metrics.csv").write_text(metrics_csv(history))
    (folder / "run.json").write_text(
        json.dumps({"config": asdict(TrainConfig(epochs=epochs, dataset=dataset, seed=seed))})
    )
    return str(folder)


def test_one_run_gives_its_own_numbers(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    assert plot_results.main([run, "--output-dir", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "results.md").read_text()
    assert text.startswith("mnist, 2 epochs, seed 0\n")
    assert (
        "|     2 |            97.00% |        0.1000 |              99.00% |          0.0250 |        99.00% |" in text
    )
    assert text.endswith("(epoch 2): test accuracy 99.00%, test loss 0.0400\n")
    assert text in capsys.readouterr().out


def test_several_runs_give_mean_and_standard_deviation(tmp_path):
    accuracies = [0.990, 0.992, 0.997]
    runs = [write_run(tmp_path / str(seed), seed, test_accuracies=(0.9, a)) for seed, a in enumerate(accuracies)]
    assert plot_results.main([*runs, "--output-dir", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "results.md").read_text()
    mean = sum(accuracies) / 3
    deviation = math.sqrt(sum((a - mean) ** 2 for a in accuracies) / 2)
    assert f"{mean:.2%} ± {deviation:.2%}" == "99.30% ± 0.36%"
    assert text.count("99.30% ± 0.36%") == 2  # in the row of epoch 2 and as the result of best.pt
    assert "mean ± standard deviation of 3 runs (seeds 0 to 2)" in text
    assert "(epoch 2): test accuracy 99.30% ± 0.36% (lowest 99.00%)," in text


@pytest.mark.parametrize("seeds", [(5, 0, 1), (0, 1)])
def test_seeds_that_are_two_or_not_in_a_row_are_each_named(tmp_path, seeds):
    runs = [write_run(tmp_path / str(seed), seed) for seed in seeds]
    assert plot_results.main([*runs, "--output-dir", str(tmp_path / "out")]) == 0
    assert f"(seeds {', '.join(map(str, seeds))})" in (tmp_path / "out" / "results.md").read_text()


def test_curves_are_drawn_and_the_same_every_time(tmp_path):
    run = write_run(tmp_path / "run", test_accuracies=(0.5, 1.0))
    pictures = []
    for name in ("a", "b"):
        assert plot_results.main([run, "--output-dir", str(tmp_path / name)]) == 0
        pictures.append([(tmp_path / name / f"curves.{kind}").read_bytes() for kind in ("png", "svg")])
    assert pictures[0] == pictures[1]
    assert pictures[0][0].startswith(b"\x89PNG")
    assert b"<svg " in pictures[0][1]


def test_curves_show_means_and_bands_of_one_standard_deviation_of_the_sample(tmp_path):
    histories = [
        [EpochMetrics(epoch, 1e-3, loss, 0.97, 0.05, 0.98, 0.04, 0.99, 3.0) for epoch in (1, 2)]
        for loss in (0.2, 0.3, 0.7)
    ]
    losses = draw_curves(tmp_path / "curves.png", {"": histories}, "title", "table").axes[0]
    (line,) = [line for line in losses.lines if line.get_label() == "training"]
    assert line.get_ydata() == pytest.approx([0.4, 0.4])
    band = losses.collections[0].get_paths()[0].vertices[:, 1]
    deviation = math.sqrt((0.2**2 + 0.1**2 + 0.3**2) / 2)
    assert [band.min(), band.max()] == pytest.approx([0.4 - deviation, 0.4 + deviation])


@pytest.mark.parametrize(("accuracy", "is_told"), [(1.0, True), (0.99995, True), (0.9999, False)])
def test_curves_say_what_stands_for_no_error_on_their_logarithmic_axis(tmp_path, accuracy, is_told):
    history = [EpochMetrics(epoch, 1e-3, 0.1, 0.97, 0.05, 0.98, 0.04, accuracy, 3.0) for epoch in (1, 2)]
    errors = draw_curves(tmp_path / "curves.png", {"": [history]}, "title", "table").axes[1]
    (line,) = [line for line in errors.lines if line.get_label() == "test"]
    assert line.get_ydata() == pytest.approx([0.01, 0.01])
    assert errors.get_ylabel() == "error rate (%)" + ", values below 0.01 drawn as 0.01" * is_told


@pytest.mark.parametrize("name", ["default", "ablation", "reading"])
def test_folder_of_a_sweep_or_of_a_run_is_plotted_as_it_is(name, tmp_path):
    folder = REPOSITORY / "results" / name
    assert plot_results.main([str(folder), "--output-dir", str(tmp_path)]) == 0
    if name != "reading":
        assert (tmp_path / "results.md").read_bytes() == (folder / "results.md").read_bytes()


def test_long_name_of_a_setting_has_what_differs_from_the_default_alone(tmp_path):
    changes = [{}, {"learning_rate": 0.02, "weight_decay": 0.3, "beta2": 0.99}, {"augment": False}]
    runs = [Run(tmp_path, TrainConfig(epochs=2, **change), [], {}) for change in changes]
    assert list(by_setting(runs)) == ["default", "learning_rate=0.02, weight_decay=0.3, beta2=0.99", "augment=False"]


def test_without_validation_images_there_is_no_curve_and_a_dash(tmp_path):
    history = [EpochMetrics(epoch, 1e-3, 0.1, 0.97, None, None, 0.04, 0.99, 3.0) for epoch in (1, 2)]
    curves = draw_curves(tmp_path / "curves.png", {"": [history]}, "title", "table")
    for axes in curves.axes:
        assert [line.get_label() for line in axes.lines] == ["training", "test"]
    text = plot_results.results_markdown({"": [Run(tmp_path, TrainConfig(epochs=2, validation_size=0), history, {})]})
    assert (
        "|     2 |            97.00% |        0.1000 |                   - |               - |        99.00% |" in text
    )
    assert text.endswith("best.pt, the last epoch: test accuracy 99.00%, test loss 0.0400\n")


def test_unfinished_run_says_how_far_it_is(tmp_path):
    run = write_run(tmp_path / "run", epochs=10)
    assert plot_results.main([run, "--output-dir", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "results.md").read_text().startswith("mnist, 2 of 10 epochs, seed 0\n")


def test_run_that_is_named_twice_or_unfinished_has_no_mean_with_the_others(tmp_path, capsys):
    run, stopped = write_run(tmp_path / "run"), write_run(tmp_path / "stopped", 1, test_accuracies=(0.9,))
    for other, message in [
        (run, f"two of {run}, {run} have the same seed and settings: give each run once"),
        (stopped, f"{stopped} has 1 epochs, others have more: resume it first"),
    ]:
        assert plot_results.main([run, other, "--output-dir", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def write_setting(folder, name, accuracies, init=None, data=None, code="c0de", **settings):
    """Write a run for each validation accuracy, with seeds from 0; return their folders."""
    runs = []
    for seed, accuracy in enumerate(accuracies):
        history = [EpochMetrics(1, 1e-3, 0.1, 0.97, 0.05, accuracy, 0.04, 0.99 - accuracy / 100, 3.0)]
        run = folder / f"{name}-{seed}"
        run.mkdir(parents=True)
        (run / "metrics.csv").write_text(metrics_csv(history))
        content = {"config": asdict(TrainConfig(epochs=1, seed=seed, **settings)), "init": init, "code": code}
        (run / "run.json").write_text(json.dumps(content | {"dataset": {"md5": data or {}}}))
        runs.append(str(run))
    return runs


def compare(tmp_path, *runs) -> list[str]:
    assert plot_results.main([*sum(runs, []), "--output-dir", str(tmp_path / "out")]) == 0
    return (tmp_path / "out" / "results.md").read_text(encoding="utf-8").splitlines()


def test_runs_that_differ_in_more_than_their_seeds_are_a_row_each_sorted_by_validation(tmp_path):
    low = write_setting(tmp_path, "low", [0.98, 0.981, 0.983], learning_rate=0.003)
    high = write_setting(tmp_path, "high", [0.985, 0.987, 0.989], learning_rate=0.02)
    _, _, heading, _, best, first, _, verdict = compare(tmp_path, low, high)
    assert heading.startswith("| Setting | Runs | Validation accuracy | Validation loss | Test accuracy | Test loss |")
    assert heading.endswith("| Points above learning_rate=0.003 |")
    assert best.startswith("| learning_rate=0.02 | 3 | 98.70% ± 0.20% | ")
    # Of the pairs 0.5, 0.6, 0.6 points: mean 17 / 30, standard deviation 1 / sqrt(300), error that by sqrt(3).
    assert best.endswith(f" | +{17 / 30:.2f} ± {1 / 30:.2f} |")
    assert first.startswith("| learning_rate=0.003 | 3 | 98.13% ± 0.15% | ")
    assert first.endswith(" | - |")
    assert verdict == (
        "learning_rate=0.02 is better than learning_rate=0.003: +0.57 ± 0.03 percentage points of validation accuracy "
        "(3 seeds, p = 0.0034)."
    )


def test_difference_that_chance_may_have_made_is_no_verdict(tmp_path):
    one = write_setting(tmp_path, "one", [0.98, 0.985, 0.982], augment=False)
    other = write_setting(tmp_path, "other", [0.982, 0.986, 0.9821])  # 0.2, 0.1 and 0.01 points: 0.10 ± 0.05
    assert compare(tmp_path, one, other)[-1].startswith(
        "augment=True is not clearly better than augment=False: +0.10 ± 0.05 percentage points of validation accuracy "
        "(3 seeds, p = 0.2"
    )
    equal = write_setting(tmp_path, "equal", [0.981, 0.986, 0.983], beta1=0.8)  # 0.1 points each: no spread to go by
    for runs in ([one[:2], other[:2]], [one[:1], other[:1]], [one, equal]):
        assert re.search(", perhaps by chance: train it and .* with more seeds.$", compare(tmp_path, *runs)[-1])


@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("init", [None, {"file": "a.pt", "md5": "1" * 32}, {"file": "a.pt", "md5": "2" * 32}], ["", "1" * 8, "2" * 8]),
        ("data", [{"train-images-idx3-ubyte": digit * 32} for digit in "123"], ["11", "22", "33"]),
        ("code", ["1" * 64, "2" * 64, "3" * 64], ["1" * 8, "2" * 8, "3" * 8]),
    ],
)
def test_runs_that_differ_in_first_weights_data_or_code_are_never_averaged(tmp_path, name, values, shown):
    runs = [
        write_setting(tmp_path, text, [0.98, 0.981], **{name: value}) for text, value in zip(shown, values, strict=True)
    ]
    rows = compare(tmp_path, *runs)[4:7]
    assert sorted(row.split(" | ")[0] for row in rows) == [f"| {name}={text}" for text in shown]


def test_settings_without_validation_images_stay_in_their_order_and_none_is_best(tmp_path):
    def write(name, accuracy, **settings):
        history = [EpochMetrics(1, 1e-3, 0.1, 0.97, None, None, 0.04, accuracy, 3.0)]
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(metrics_csv(history))
        config = asdict(TrainConfig(epochs=1, validation_size=0, **settings))
        (tmp_path / name / "run.json").write_text(json.dumps({"config": config}))
        return str(tmp_path / name)

    lines = compare(tmp_path, [write("a", 0.9, beta1=0.8), write("b", 0.99, beta1=0.7)])
    assert lines[4:] == [
        "| beta1=0.8 | 1 | - | - | 90.00% | 0.0400 | - |",
        "| beta1=0.7 | 1 | - | - | 99.00% | 0.0400 | - |",
        "",
        "Some settings have no validation images, so no best one is named.",
    ]


def test_settings_are_told_apart_by_colour_and_marker_and_their_splits_by_the_line(tmp_path):
    settings = {
        f"setting {number}": [[EpochMetrics(epoch, 1e-3, 0.1, 0.97, 0.05, 0.98, 0.04, 0.99, 3.0) for epoch in (1, 2)]]
        for number in range(8)
    }
    figure = draw_curves(tmp_path / "curves.png", settings, "title", "table")
    width, height = figure.get_size_inches()
    assert width > 1.5 * height  # a slide's
    for axes in figure.axes:
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines) == [label for name in settings for label in (name, f"_{name}")]  # validation, and test
        looks = {name: (line.get_color(), line.get_marker()) for name, line in lines.items()}
        assert len(set(looks.values())) == len({look[0] for look in looks.values()}) == 8
        assert len({look[1] for look in looks.values()}) == 8
        for name in settings:
            assert looks[name] == looks[f"_{name}"]
            assert (lines[name].get_linestyle(), lines[f"_{name}"].get_linestyle()) == ("-", ":")
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "solid: validation images; dotted, hollow: test images"
    assert [text.get_text() for text in legend.get_texts()] == list(settings)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"config": {"speed": 1}}'])
def test_folder_without_a_run_is_one_line(tmp_path, capsys, content):
    run = write_run(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    if content is not None:
        (tmp_path / "run" / "run.json").write_text(content)
    assert plot_results.main([run, "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "run.json" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", ["some text", "epoch,loss\n1,0.5\n"])
def test_metrics_of_something_else_are_one_line(tmp_path, capsys, content):
    run = write_run(tmp_path / "run", test_accuracies=(0.9,) * 3, epochs=3)
    (tmp_path / "run" / "metrics.csv").write_text(content)
    assert plot_results.main([run, "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "metrics.csv" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
