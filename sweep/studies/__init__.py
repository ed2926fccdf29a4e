"""Optuna: a study asks for parameters and is told figures, of searches and of trainings alike."""
