"""Turn pictures of digits into images like MNIST's, and read them with the network."""
