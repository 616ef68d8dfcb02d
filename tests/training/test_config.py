"""The flags of train.py: whatever is given, a run has that recipe, or there is one line and nothing is touched."""

import contextlib
import io
import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import train
from common.command_line import UserError
from training.config import TEXTBOOK, TrainConfig, config_from, parse_arguments


def is_number(text: str, kind: type) -> bool:
    with contextlib.suppress(ValueError):
        kind(text)
        return True
    return False


# What the flags take, and what they don't, as people may write it.
RIGHT = {
    "epochs": st.integers(1, 10**9),
    "batch_size": st.integers(1, 10**9),
    "learning_rate": st.floats(1e-12, 1e17),
    "weight_decay": st.floats(0, 1e17),
    "schedule": st.sampled_from(["one-cycle", "constant"]),
    "warm_up": st.floats(0, 0.999999),
    "beta1": st.floats(0, 0.999999),
    "beta2": st.floats(0, 0.999999),
    "ema_decay": st.floats(0, 0.999999),
    "ema_ramp": st.integers(1, 10**9),
    "label_smoothing": st.floats(0, 0.999999),
    "augment": st.booleans(),
    "rotation_degrees": st.floats(0, 360),
    "shear_degrees": st.floats(0, 80),
    "scale_change": st.floats(0, 0.999999),
    "shift_pixels": st.floats(0, 28),
    "elastic_pixels": st.floats(0, 28),
    "control_points": st.integers(1, 28),
    "final_strength": st.floats(0, 1),
    "amp": st.booleans(),
    "seed": st.integers(0, 10**18 - 1),
    "validation_size": st.integers(0, 10**9),
    "dataset": st.sampled_from(["mnist", "synthetic"]),
}
NO_INTEGER = st.text().filter(lambda text: not is_number(text, int)) | st.floats().map(str)
NO_NUMBER = st.text().filter(lambda text: not is_number(text, float)) | st.sampled_from(["nan", "inf", "-inf", "1e999"])
WRONG = {
    "--epochs": NO_INTEGER | st.integers(max_value=0) | st.integers(min_value=10**18),
    "--batch-size": NO_INTEGER | st.integers(max_value=0) | st.integers(min_value=10**18),
    "--learning-rate": NO_NUMBER | st.floats(max_value=0, exclude_max=True),
    "--weight-decay": NO_NUMBER | st.floats(max_value=0, exclude_max=True),
    "--schedule": st.text().filter(lambda text: text not in ("one-cycle", "constant")),
    "--ema-decay": NO_NUMBER | st.floats(max_value=0, exclude_max=True) | st.floats(1),
    "--control-points": NO_INTEGER | st.integers(max_value=0) | st.integers(29),  # no finer than the pixels
    "--augment": st.text(),
    "--seed": NO_INTEGER | st.integers(max_value=-1) | st.integers(min_value=10**18),
    "--validation-size": NO_INTEGER | st.integers(max_value=-1) | st.integers(1000),  # of 1,000 images
    "--dataset": st.text().filter(lambda text: text not in ("auto", "mnist", "synthetic")),
    "--device": st.text().filter(lambda text: not text.startswith("cpu"))
    | st.sampled_from(["auto,cpu", "cuda:99", "cuda:-1", "mps:7", "meta", "gpu"]),
}


def flags_of(recipe: dict) -> list[str]:
    flags = []
    for name, value in recipe.items():
        flag = name.replace("_", "-")
        flags.append(f"--{flag}={value}" if not isinstance(value, bool) else f"--{flag}" if value else f"--no-{flag}")
    return flags


@given(st.fixed_dictionaries({}, optional=RIGHT), st.booleans())
def test_settings_are_those_that_were_given(given_settings, textbook):
    _, recipe = parse_arguments([*flags_of(given_settings), *["--textbook"] * textbook])
    assert recipe == {**(TEXTBOOK if textbook else {}), **given_settings}
    config = TrainConfig(**recipe)
    assert config_from(asdict(config), Path("run.json")) == config  # and come back from a file


def test_auto_is_no_setting_since_a_recipe_names_the_data_set_that_was_used():
    assert parse_arguments(["--dataset", "auto"])[1] == parse_arguments([])[1] == {}


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wrong=st.fixed_dictionaries({}, optional=WRONG).filter(bool))
def test_wrong_flags_are_one_line_and_nothing_is_touched(small_run, tmp_path, wrong):
    output, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        exit_code = train.main([*small_run, *[f"{flag}={value}" for flag, value in wrong.items()]])
    assert exit_code == 2
    assert output.getvalue() == ""
    assert error.getvalue().startswith("train.py: error: ")
    assert len(error.getvalue().splitlines()) == 1
    assert any(flag in error.getvalue() or flag[2:].replace("-", "_") in error.getvalue() for flag in wrong)
    assert {path.name for path in tmp_path.rglob("*")} <= {"run", ".lock"}


def test_every_field_has_a_flag_a_help_and_a_default_that_says_what_it_is(capsys):
    assert RIGHT.keys() == {field.name for field in fields(TrainConfig)}
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    text = " ".join(capsys.readouterr().out.split("recipe:")[1].split()).replace("one- cycle", "one-cycle")
    flags = {re.split("[ ,]", part)[0]: part for part in re.split(r"(?<!,) (?=--)", text)}
    for field in fields(TrainConfig):
        default = {"dataset": "auto", "augment": "on", "amp": "off"}.get(field.name, field.default)
        assert flags[f"--{field.name.replace('_', '-')}"].endswith(f" (default: {default})")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": "10"}, "--epochs must be of type int, not '10'"),
        ({"epochs": 2.5}, "--epochs must be of type int, not 2.5"),
        ({"epochs": True}, "--epochs must be of type int, not True"),
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"augment": 1}, "--augment must be of type bool, not 1"),
        ({"learning_rate": None}, "--learning-rate must be of type float, not None"),
        ({"learning_rate": float("inf")}, "--learning-rate must be less than 1e+18, not inf"),
        ({"learning_rate": float("nan")}, "--learning-rate must be less than 1e+18, not nan"),
        ({"schedule": "nonsense"}, "--schedule must be one-cycle or constant, not 'nonsense'"),
        ({"ema_decay": 1.0}, "--ema-decay must be less than 1, not 1.0"),
        ({"control_points": 29}, "--control-points must be less than 29, not 29"),
    ],
    ids=str,
)
def test_wrong_type_choice_or_range_is_told_by_the_flag(wrong, message):
    with pytest.raises(UserError) as failure:
        TrainConfig(**wrong)
    assert str(failure.value) == message


def test_whole_number_is_a_float_too_as_json_writes_it():
    assert TrainConfig(elastic_pixels=0).elastic_pixels == 0


def test_setting_that_a_file_lacks_takes_its_default_and_an_unknown_one_is_an_error():
    assert config_from({"epochs": 3}, Path("run.json")) == TrainConfig(epochs=3)
    with pytest.raises(UserError, match="run.json was written by another version of train.py .*argument 'speed'"):
        config_from({"epochs": 3, "speed": 9, "momentum": 0.9}, Path("run.json"))
    with pytest.raises(UserError, match="run.json was written by another version"):
        config_from(None, Path("run.json"))
    with pytest.raises(UserError, match="run.json was written by another version .*--epochs must be at least 1, not 0"):
        config_from({"epochs": 0}, Path("run.json"))
