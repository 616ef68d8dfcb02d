import pytest
import torch
import torch.nn.functional as F

from own_digits.layers import as_bytes, kernels, record_activations


def test_activations_are_those_of_the_textbook_network(reference):
    images = torch.rand(2, 1, 28, 28)
    with torch.inference_mode(), record_activations(reference) as activations:
        reference(torch.zeros(1, 1, 28, 28))  # images that come before don't matter
        reference(images)
    maps = F.max_pool2d(F.relu(reference.conv1((images - 0.1307) / 0.3081)), 2)
    torch.testing.assert_close(activations["conv1"], maps)
    maps = F.max_pool2d(F.relu(reference.conv2(maps)), 2)
    torch.testing.assert_close(activations["conv2"], maps.flatten(1))
    torch.testing.assert_close(activations["fc1"], F.relu(reference.fc1(maps.flatten(1))))
    assert {name: tuple(values.shape) for name, values in activations.items()} == {
        "conv1": (2, 10, 13, 13),
        "conv2": (2, 500),
        "fc1": (2, 50),
    }


def test_network_is_left_without_hooks(reference):
    with pytest.raises(ZeroDivisionError), record_activations(reference):
        raise ZeroDivisionError
    with record_activations(reference) as activations:
        pass
    reference(torch.rand(1, 1, 28, 28))
    assert activations == {}
    assert not any(layer._forward_pre_hooks for layer in reference.modules())


def test_bytes_are_fractions_of_the_scale():
    assert as_bytes(torch.tensor([[0.0, 1.01], [2.0, 0.5]])) == {"scale": 2.0, "values": [0, 129, 255, 64]}
    assert as_bytes(torch.zeros(3)) == {"scale": 1.0, "values": [0, 0, 0]}


def test_kernels_are_the_weights_to_three_decimals(reference):
    weights = {layer: torch.tensor(values) for layer, values in kernels(reference).items()}
    assert weights["conv1"].shape == (10, 1, 25)
    assert weights["conv2"].shape == (20, 10, 25)
    assert weights["fc1"].shape == (50, 10, 1)
    tolerance = {"rtol": 0, "atol": 0.000501}
    torch.testing.assert_close(weights["conv1"].view(10, 1, 5, 5), reference.conv1.weight.detach(), **tolerance)
    torch.testing.assert_close(weights["conv2"].view(20, 10, 5, 5), reference.conv2.weight.detach(), **tolerance)
    assert weights["fc1"][7, 3].item() == pytest.approx(reference.fc2.weight[3, 7].item(), abs=0.000501)
