"""Selection where the model is: kernels for a GPU, and the same in plain torch."""
