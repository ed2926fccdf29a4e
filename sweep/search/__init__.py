"""Instead of a grid: Optuna studies, and bisection within a budget."""
