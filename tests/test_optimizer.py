import subprocess
import sys

import pytest
import torch
from conftest import REPOSITORY

from model import DigitCNN
from optimizer import AdamW, learning_rate_at


def train_steps(optimizer_of, step_of, steps=5):
    torch.manual_seed(0)
    model = DigitCNN()
    optimizer = optimizer_of(model.parameters())
    for step in range(steps):
        model(torch.rand(8, 1, 28, 28)).logsumexp(dim=1).sum().backward()
        step_of(optimizer, 1e-3 * (step + 1))
    return list(model.parameters())


def step_torch(optimizer, learning_rate):
    optimizer.param_groups[0]["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_bitwise_those_of_torch_optim_adamw(weight_decay):
    ours = train_steps(lambda p: AdamW(p, weight_decay), lambda optimizer, rate: optimizer.step(rate))
    theirs = train_steps(lambda p: torch.optim.AdamW(p, weight_decay=weight_decay, fused=True), step_torch)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_without_weight_decay_it_is_adam():
    ours = train_steps(lambda p: AdamW(p), lambda optimizer, rate: optimizer.step(rate))
    adam = train_steps(lambda p: torch.optim.Adam(p), step_torch)
    for one, other in zip(ours, adam, strict=True):
        torch.testing.assert_close(one, other)


def test_state_saved_and_loaded_continues_bit_for_bit():
    def halfway(optimizer, rate):
        optimizer.step(rate)
        state = {name: [t.clone() for t in tensors] for name, tensors in optimizer.state_dict().items()}
        for tensor in optimizer.mean + optimizer.square + optimizer.steps:
            tensor.fill_(7)  # what another optimizer would have
        optimizer.load_state_dict(state)

    plain = train_steps(lambda p: AdamW(p), lambda optimizer, rate: optimizer.step(rate))
    reloaded = train_steps(lambda p: AdamW(p), halfway)
    assert all(torch.equal(one, other) for one, other in zip(plain, reloaded, strict=True))


def test_one_cycle_rises_in_a_line_for_a_fifth_and_falls_in_a_line_to_zero():
    rates = [learning_rate_at(tenths / 10, peak=1.0) for tenths in range(11)]
    assert rates == pytest.approx([0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0])


def test_constant_schedule_is_constant():
    assert {learning_rate_at(tenths / 10, 0.001, "constant") for tenths in range(11)} == {0.001}


def test_training_imports_neither_torchvision_nor_the_compiler_of_pytorch(small_run):
    code = """
import sys, train
assert train.main(sys.argv[1:]) == 0
sys.exit("torchvision" in sys.modules or "torch._dynamo" in sys.modules)
"""
    flags = [*small_run, "--epochs", "1", "--resume"]
    assert subprocess.run([sys.executable, "-c", code, *flags], cwd=REPOSITORY, check=False).returncode == 0
