"""What each layer of the network makes of an image, recorded while it reads the image, and the weights behind that."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from common.command_line import UserError
from model import DigitCNN

NEXT_LAYER = {"conv1": "conv2", "conv2": "fc1", "fc1": "fc2"}

DIGITS = list("0123456789")
SHAPES = {"conv1": (10, 1, 5, 5), "conv2": (20, 10, 5, 5), "fc1": (50, 500), "fc2": (10, 50)}  # of the weights


def check_can_show(model: DigitCNN, classes: list[str]) -> None:
    """Raise UserError unless the page can show a network: its layers have the names and sizes of SHAPES."""
    weights = {name: value for name, value in model.state_dict().items() if not name.endswith(".bias")}
    shapes = {name.removesuffix(".weight"): tuple(value.shape) for name, value in weights.items()}
    if shapes != SHAPES:
        raise UserError(f"the page of the demo shows networks with the layers {SHAPES} only, not {shapes}")
    if classes != DIGITS:
        raise UserError(f"the page of the demo is for the digits, not for the classes {', '.join(classes)}")


@contextmanager
def record_activations(model: DigitCNN) -> Iterator[dict[str, Tensor]]:
    """Record the activations of each layer, after pooling and ReLU, of the last images that go through the network.

    They are what the next layer gets: conv1 (B, 10, 13, 13), conv2 (B, 500), which is (B, 20, 5, 5), fc1 (B, 50).
    """
    activations = {}
    hooks = [
        getattr(model, following).register_forward_pre_hook(
            lambda _, inputs, layer=layer: activations.update({layer: inputs[0]})
        )
        for layer, following in NEXT_LAYER.items()
    ]
    try:
        yield activations
    finally:
        for hook in hooks:
            hook.remove()


def as_bytes(activations: Tensor) -> dict:
    """Return activations, none below 0, for JSON: integers from 0 to 255, which stands for the scale, the largest."""
    scale = activations.max().item() or 1.0
    return {"scale": scale, "values": (255 / scale * activations).round().int().flatten().tolist()}


def kernels(model: DigitCNN) -> dict:
    """Return the weights that the page shows, for JSON: the kernels of each map, and each unit's votes for the digits.

    conv1 is (10, 1, 25), conv2 (20, 10, 25); fc1, whose units' votes are the weights of fc2, (50, 10, 1).
    """
    weights = {"conv1": model.conv1.weight, "conv2": model.conv2.weight, "fc1": model.fc2.weight.T[:, :, None]}
    return {layer: values.detach().double().flatten(2).numpy().round(3).tolist() for layer, values in weights.items()}
