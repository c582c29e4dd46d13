"""The network that predicts an age from an image and a gender: its input, loss and checkpoint file."""
