"""Evaluation of several windows in one forward pass, with masks made where the model is."""
