"""Image and gender become an age: the network, its input, its loss and its checkpoint file."""
