"""What a GGUF file holds, read with the library of the format: values by key, tensors by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.errors import InputError


@dataclass(frozen=True, slots=True)
class Contents:
    """The metadata of a file and its tensors; values of tensors are read when asked for."""

    name: str
    values: Mapping[str, Any]
    tensors: Mapping[str, Any]

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    def of_model(self) -> dict[str, Any]:
        """Keys of the architecture, without its name, and their values."""
        prefix = f"{self.architecture}."
        return {k.removeprefix(prefix): v for k, v in self.values.items() if k.startswith(prefix)}

    def weight(self, name: str) -> NDArray[np.float32]:
        """The values of a tensor in float32, by the format's own dequantiser."""
        import gguf

        tensor = self.tensors[name]
        array = gguf.dequantize(tensor.data, tensor.tensor_type)
        return np.ascontiguousarray(array, dtype=np.float32)

    def blocks_without_tensors(self) -> list[str]:
        """Layers that the file counts and has nothing of."""
        numbers = {int(m[1]) for name in self.tensors if (m := re.match(r"blk\.(\d+)\.", name))}
        count = int(self.of_model().get("block_count", 0))
        return [f"blk.{layer}.*" for layer in range(count) if layer not in numbers]


def contents(paths: tuple[Path, ...]) -> Contents:
    """The file, or the file that these parts make up. Raises InputError for what is no GGUF."""
    import gguf

    try:
        readers = [gguf.GGUFReader(path) for path in paths]
        values = {
            name: field.contents()
            for name, field in readers[0].fields.items()
            if not name.startswith("GGUF.")
        }
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{paths[0]} is cut off or is no GGUF file: {error}") from None
    split = int(values.get("split.count", 0))
    if split > 1 and len(paths) != split:
        raise InputError(
            f"{paths[0]} is part {int(values.get('split.no', 0)) + 1} of {split}; the parts belong "
            f"in one folder, called NAME-00001-of-{split:05d}.gguf and so on"
        )
    tensors = {tensor.name: tensor for reader in readers for tensor in reader.tensors}
    return Contents(paths[0].name, values, tensors)
