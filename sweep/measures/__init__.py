"""What is measured of a forward pass: losses of tokens, and their distance to the dense ones."""
