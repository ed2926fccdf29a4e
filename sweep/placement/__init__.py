"""Whether a model fits the GPUs that a task has, and on which of them each layer lies."""
