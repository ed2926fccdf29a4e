"""Data sets of this machine in the place of the hub's, while lm-eval loads its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep.downstream import data as taskdata


@contextmanager
def local_data(folder: str | None) -> Iterator[None]:
    """Let data sets that are on this machine be loaded from there, by their names on the hub."""
    import datasets

    original = datasets.load_dataset

    def load(path: str, name: str | None = None, **options: Any) -> Any:
        files = taskdata.splits(path, name, folder)
        if files is None:
            return original(path, name, **options)
        return _Splits({split: _dataset(file) for split, file in files.items()})

    datasets.load_dataset = load
    try:
        yield
    finally:
        datasets.load_dataset = original


class _Splits(dict[str, Any]):
    """Splits of a data set; those for training and few-shot examples may be lacking: empty."""

    def __missing__(self, split: str) -> Any:
        if split != "train":
            raise KeyError(split)
        return next(iter(self.values())).select([])


def _dataset(file: Path) -> Any:
    import datasets

    if file.suffix == ".arrow":
        return datasets.Dataset.from_file(str(file))
    if file.suffix == ".parquet":
        import pyarrow.parquet as parquet

        return datasets.Dataset(parquet.read_table(file))
    import pyarrow.json as lines

    return datasets.Dataset(lines.read_json(file))
