"""Put the page of the demo together: one HTML file with its script, its style and the weights of the networks."""

import base64
import hashlib
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.command_line import UserError
from model import MNIST_MEAN, MNIST_STD

FOLDER = Path(__file__).with_name("page")
SCRIPTS = ["network.js", "drawing.js", "page.js"]


def layers_of(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Return the convolutions and fully connected layers of a network in the order of their definition."""
    return [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]


def page_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits, (B, classes), as the page computes them from the weights alone (network.js).

    Raises RuntimeError, TypeError or ValueError for layers that it can't compute.
    """
    x = (images - MNIST_MEAN) / MNIST_STD
    *hidden, last = layers_of(model)
    for layer in hidden:
        if isinstance(layer, nn.Conv2d):
            if isinstance(layer.padding, str):
                raise TypeError("the page pads by numbers of pixels")
            x = F.relu(F.max_pool2d(F.conv2d(x, layer.weight, layer.bias, padding=layer.padding), 2))
        else:
            x = F.relu(layer(x.flatten(1)))
    return last(x.flatten(1))


def check_can_show(model: nn.Module) -> None:
    """Raise UserError if a network, in evaluation mode, computes something other than the page would."""
    images = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        try:
            expected = model(images).log_softmax(1)
            difference = (page_logits(model, images).log_softmax(1) - expected).abs().max() / expected.abs().max()
        except (RuntimeError, TypeError, ValueError):
            difference = 1.0
    if not difference <= 1e-5:  # the rounding errors of float32 are below 1e-6
        raise UserError(
            "the demo page can only show networks of convolutions, each with ReLU and 2x2 max pooling, then fully "
            "connected layers with ReLU between them; the network in model.py computes something else"
        )


def network_of(name: str, model: nn.Module, classes: list[str]) -> dict:
    """Return a network for JSON: the description of its weights, its classes, and all weights as float32 in base64."""
    layers = layers_of(model)
    layout = [{"shape": list(layer.weight.shape), "padding": list(getattr(layer, "padding", []))} for layer in layers]
    values = [(layer.weight, torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias) for layer in layers]
    numbers = torch.cat([tensor.detach().float().flatten() for pair in values for tensor in pair])
    weights = base64.b64encode(numbers.numpy().astype("<f4").tobytes()).decode()
    return {"name": name, "classes": classes, "layers": layout, "weights": weights}


def build_page(networks: list[dict]) -> str:
    """Return the page of networks from network_of(). Its security policy allows only its own script and style."""

    def text(name: str) -> str:
        return (FOLDER / name).read_text(encoding="utf-8")

    def digest(content: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

    style, script = text("style.css"), "".join(map(text, SCRIPTS))
    policy = f"default-src 'none'; img-src data:; style-src {digest(style)}; script-src {digest(script)}"
    data = json.dumps(networks).replace("<", "\\u003c")  # a name can't end the script
    parts = {"policy": policy, "style": style, "networks": data, "script": script}
    page = text("index.html")
    for name, content in parts.items():
        page = page.replace("{{" + name + "}}", content)
    return page
