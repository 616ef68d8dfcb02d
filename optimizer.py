"""Adam with decoupled weight decay, and the learning rate's course over a run."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS = 0.9, 0.999  # decay of the gradient's first and second moments: those of the paper


class AdamW:
    """PyTorch's own fused AdamW (https://arxiv.org/abs/1711.05101; with weight_decay 0 it is Adam), called directly.

    `torch.optim.AdamW` computes the same bits. But its class imports PyTorch's compiler, which no run of this network
    uses: about a second at every start and 150 MB (`python -X importtime -c "import torch._dynamo"` shows it).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float = 0.0) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.mean = [torch.zeros_like(p) for p in self.parameters]  # of the gradient: the first moment
        self.square = [torch.zeros_like(p) for p in self.parameters]  # of its elements: the second moment
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Update the parameters from their gradients, and forget the gradients."""
        gradients = [p.grad for p in self.parameters]
        adamw(
            self.parameters,
            gradients,
            self.mean,
            self.square,
            [],
            self.steps,
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )
        for p in self.parameters:
            p.grad = None

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {"mean": self.mean, "square": self.square, "steps": self.steps}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        for name, tensors in self.state_dict().items():
            for tensor, saved in zip(tensors, state[name], strict=True):
                tensor.copy_(saved)


WARM_UP = 0.2  # the fraction of a one-cycle run in which the learning rate rises


def learning_rate_at(progress: float, peak: float, schedule: str = "one-cycle") -> float:
    """Return the learning rate when that fraction of the run, from 0 to 1, is done.

    One-cycle rises in a line to its peak over the warm-up, then falls in a line to 0 (https://arxiv.org/abs/1708.07120).
    """
    if schedule == "constant":
        return peak
    return peak * min(progress / WARM_UP, (1 - progress) / (1 - WARM_UP))
