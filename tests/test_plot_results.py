import json
import math
from dataclasses import asdict

import pytest
from conftest import REPOSITORY

import plot_results
from training.charts import draw_curves
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
        pictures.append((tmp_path / name / "curves.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG")


def test_curves_show_means_and_bands_of_one_standard_deviation_of_the_sample(tmp_path):
    histories = [
        [EpochMetrics(epoch, 1e-3, loss, 0.97, 0.05, 0.98, 0.04, 0.99, 3.0) for epoch in (1, 2)]
        for loss in (0.2, 0.3, 0.7)
    ]
    losses = draw_curves(tmp_path / "curves.png", histories, "title", "table").axes[0]
    (line,) = [line for line in losses.lines if line.get_label() == "training"]
    assert line.get_ydata() == pytest.approx([0.4, 0.4])
    band = losses.collections[0].get_paths()[0].vertices[:, 1]
    deviation = math.sqrt((0.2**2 + 0.1**2 + 0.3**2) / 2)
    assert [band.min(), band.max()] == pytest.approx([0.4 - deviation, 0.4 + deviation])


@pytest.mark.parametrize(("accuracy", "is_told"), [(1.0, True), (0.99995, True), (0.9999, False)])
def test_curves_say_what_stands_for_no_error_on_their_logarithmic_axis(tmp_path, accuracy, is_told):
    history = [EpochMetrics(epoch, 1e-3, 0.1, 0.97, 0.05, 0.98, 0.04, accuracy, 3.0) for epoch in (1, 2)]
    errors = draw_curves(tmp_path / "curves.png", [history], "title", "table").axes[1]
    (line,) = [line for line in errors.lines if line.get_label() == "test"]
    assert line.get_ydata() == pytest.approx([0.01, 0.01])
    assert errors.get_ylabel() == "error rate (%)" + ", with less than 0.01 drawn as 0.01" * is_told


@pytest.mark.parametrize("recipe", ["default", "textbook", "reading"])
def test_published_runs_are_plotted_as_they_are(recipe, tmp_path, capsys):
    folder = REPOSITORY / "results" / recipe
    assert plot_results.main([str(folder), "--output-dir", str(tmp_path)]) == 0
    if recipe != "reading":
        assert (tmp_path / "results.md").read_text(encoding="utf-8") == (folder / "results.md").read_text(
            encoding="utf-8"
        )


def test_without_validation_images_there_is_no_curve_and_a_dash(tmp_path):
    history = [EpochMetrics(epoch, 1e-3, 0.1, 0.97, None, None, 0.04, 0.99, 3.0) for epoch in (1, 2)]
    curves = draw_curves(tmp_path / "curves.png", [history], "title", "table")
    for axes in curves.axes:
        assert [line.get_label() for line in axes.lines] == ["training", "test"]
    text = plot_results.results_markdown([TrainConfig(epochs=2, validation_size=0)], [history])
    assert (
        "|     2 |            97.00% |        0.1000 |                   - |               - |        99.00% |" in text
    )
    assert text.endswith("best.pt, the last epoch: test accuracy 99.00%, test loss 0.0400\n")


def test_unfinished_run_says_how_far_it_is(tmp_path):
    run = write_run(tmp_path / "run", epochs=10)
    assert plot_results.main([run, "--output-dir", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "results.md").read_text().startswith("mnist, 2 of 10 epochs, seed 0\n")


def test_runs_that_have_no_mean_are_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    others = {
        "the runs differ in dataset": write_run(tmp_path / "synthetic", 1, dataset="synthetic"),
        "the runs differ in epochs done": write_run(tmp_path / "stopped", 1, test_accuracies=(0.9,)),
        "the runs differ in epochs, epochs done": write_run(
            tmp_path / "longer", 1, test_accuracies=(0.9,) * 3, epochs=3
        ),
        "the same seed is there twice": run,
    }
    for message, other in others.items():
        assert plot_results.main([run, other, "--output-dir", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


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
