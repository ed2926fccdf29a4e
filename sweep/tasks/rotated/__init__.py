"""Trainings whose method rotates weights that are quantised after it."""
