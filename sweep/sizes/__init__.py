"""What the names and shapes of a model's tensors say of its sizes; no torch, no weights read."""
