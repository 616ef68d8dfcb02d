"""The training step as a CUDA graph: a hundred small kernels that one call launches, with no Python in between."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor


class CapturedStep:
    """Calls like the step that it is made of; captures it at the first call and replays it at the others.

    A batch of another size than the first (the last of an epoch) takes the step itself. The step must not wait for the
    device, and all that changes between calls must be in its tensors. https://pytorch.org/docs/stable/notes/cuda.html
    """

    def __init__(self, step: Callable) -> None:
        self.step = step
        self.graph = None
        self.arguments: list = []  # a graph reads and writes fixed addresses: these are copied into before a replay,
        self.results: tuple = ()  # and these hold what it computed

    def __call__(self, training, *arguments) -> tuple[Tensor, ...]:
        if self.graph is None:
            self.capture(training, arguments)
        if len(arguments[0]) != len(self.arguments[0]):
            return self.step(training, *arguments)
        for static, new in zip(self.arguments, arguments, strict=True):
            if isinstance(static, Tensor):
                static.copy_(new)
        self.graph.replay()
        return tuple(result.clone() for result in self.results)  # the next replay overwrites them

    def capture(self, training, arguments: tuple) -> None:
        self.arguments = [value.clone() if isinstance(value, Tensor) else value for value in arguments]
        state = copy.deepcopy(training.state_dict())
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):  # a few steps first: cuDNN and autograd set themselves up
            for _ in range(3):
                self.step(training, *self.arguments)
        torch.cuda.current_stream().wait_stream(side_stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.results = self.step(training, *self.arguments)
        training.load_state_dict(state)  # as if those steps had not been
