"""The images: MNIST, or synthetic digits, and their augmentation."""
