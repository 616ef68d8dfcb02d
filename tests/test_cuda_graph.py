import contextlib
from types import SimpleNamespace

import pytest
import torch

import train
from cuda_graph import CapturedStep
from training.config import TrainConfig


class ReplayOnTheCPU:
    """Stands in for torch.cuda: its "graph" takes the step again, on the arguments that were there at the capture."""

    def __init__(self, captured, training):
        self.captured, self.training, self.replays = captured, training, 0

    def Stream(self):
        return SimpleNamespace(wait_stream=lambda other: None)

    current_stream = Stream

    def stream(self, stream):
        return contextlib.nullcontext()

    graph = stream

    def CUDAGraph(self):
        return self

    def replay(self):
        self.replays += 1
        results = self.captured.step(self.training, *self.captured.arguments)
        for static, new in zip(self.captured.results, results, strict=True):
            static.copy_(new)


@pytest.mark.parametrize("augment", [True, False])
def test_epoch_of_replayed_steps_is_bitwise_the_plain_one(data, monkeypatch, augment):
    config = TrainConfig(batch_size=96, augment=augment)  # 800 images: 8 whole batches and one of 32
    plain = train.build_training(config, torch.device("cpu"))
    expected = [train.train_one_epoch(plain, data.train, config, epoch) for epoch in (1, 2)]

    captured = CapturedStep(train.train_step)
    training = train.build_training(config, torch.device("cpu"))
    monkeypatch.setattr("cuda_graph.torch", SimpleNamespace(cuda=(cuda := ReplayOnTheCPU(captured, training))))
    assert [train.train_one_epoch(training, data.train, config, epoch, captured) for epoch in (1, 2)] == expected
    assert cuda.replays == 16
    for ours, theirs in zip(training.averaged_model.parameters(), plain.averaged_model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a CUDA GPU")
def test_epoch_of_a_real_graph_agrees_with_the_plain_one(data):
    device = torch.device("cuda")
    config, split = TrainConfig(batch_size=96), data.train.to(device)
    results = [
        train.train_one_epoch(train.build_training(config, device), split, config, 1, step)
        for step in (train.train_step, CapturedStep(train.train_step))
    ]
    assert results[0] == pytest.approx(results[1], rel=1e-3)


def test_graph_without_a_gpu_is_refused_in_one_line(small_run, tmp_path, capsys):
    assert train.main([*small_run, "--cuda-graph"]) == 2
    assert "--cuda-graph wants 1 process on an NVIDIA or AMD GPU, not 1 on cpu" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
