"""The parts of a split GGUF file: NAME-00001-of-00003.gguf and so on, all in one folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sweep.errors import InputError

VERSION = 2
"""Of what is made of a GGUF file; another one makes every file, and all results with it, anew."""

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def parts(path: Path) -> tuple[Path, ...]:
    """All parts of the file that `path` is a part of, in order; a file that is whole is its own.

    Raises InputError, naming them, if parts are missing.
    """
    match = _PART.fullmatch(path.name)
    if not match:
        return (path,)
    count = int(match["count"])
    names = [f"{match['stem']}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise InputError(
            f"{path} is part {int(match['number'])} of {count}, and {', '.join(missing[:3])}"
            f"{' …' if len(missing) > 3 else ''} is not beside it{_lacking(path)}"
        )
    return tuple(path.with_name(name) for name in names)


def of_one_file(paths: list[Path]) -> bool:
    """Whether these are parts of one split file."""
    matches = [_PART.fullmatch(path.name) for path in paths]
    return len({(m["stem"], m["count"]) for m in matches if m}) == 1 and all(matches)


def _lacking(path: Path) -> str:
    """The layers of which the part that is there has nothing, for the message."""
    if not path.is_file():
        return ""
    try:
        import gguf

        part = gguf.GGUFReader(path)
        kind = part.fields["general.architecture"].contents()
        layers = int(part.fields[f"{kind}.block_count"].contents())
    except Exception:  # what the part says of itself is a help, not the reason
        return ""
    here = {t.name.split(".")[1] for t in part.tensors if t.name.startswith("blk.")}
    missing = [f"blk.{layer}.*" for layer in range(layers) if str(layer) not in here]
    if not missing:
        return ""
    return f"; without the rest the model lacks {', '.join(missing[:4])}" + (
        " …" if len(missing) > 4 else ""
    )


def join(paths: tuple[Path, ...], target: Path) -> Path:
    """Write the parts as one GGUF file; tensors are copied as they are."""
    import gguf

    readers = [gguf.GGUFReader(path) for path in paths]
    kind = str(readers[0].fields["general.architecture"].contents())
    writer: Any = gguf.GGUFWriter(target, kind)
    for name, field in readers[0].fields.items():
        if not name.startswith(("GGUF.", "split.")) and name != "general.architecture":
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    for t in tensors:
        writer.add_tensor_info(t.name, t.data.shape, t.data.dtype, t.data.nbytes, t.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for t in tensors:
        writer.write_tensor_data(t.data)
    writer.close()
    return target
