"""From any picture of a digit to MNIST's form, and the network's answer."""
