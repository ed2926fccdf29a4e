"""Which model a name means, and what can be known of it without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from simulator import Geometry, SimulatorError, Storage
from sweep.errors import InputError, ResourceError
from sweep.inputs import gguf_header, model_sizes
from sweep.inputs import model_ref as weights
from tests.sweep import tiny_gguf

SIZES = {
    "layers": 2,
    "hidden": 48,
    "intermediate": 96,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 12,
    "vocabulary": 257,
    "tied_embeddings": False,
}


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


@pytest.fixture(scope="session")
def tiny_gguf_file(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write(tiny_llama, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.mark.parametrize(
    ("ref", "source", "hub_id", "revision"),
    [
        ("smollm2-135m", "built-in", None, None),
        ("phi-3-medium", "hub", "microsoft/Phi-3-medium-4k-instruct", None),
        ("some-one/some.model", "hub", "some-one/some.model", None),
        ("some-one/some.model@v1.0", "hub", "some-one/some.model", "v1.0"),
    ],
)
def test_names_and_hub_ids(ref: str, source: str, hub_id: str | None, revision: str | None) -> None:
    found = weights.resolve(ref)
    assert (found.source, found.hub_id, found.revision) == (source, hub_id, revision)


def test_a_folder_and_a_gguf_file_are_local(tiny_llama: Path, tiny_gguf_file: Path) -> None:
    assert weights.resolve(str(tiny_llama)).path == tiny_llama
    assert weights.resolve(str(tiny_gguf_file)).path == tiny_gguf_file
    assert weights.resolve(str(tiny_gguf_file.parent)).path == tiny_gguf_file


def test_a_relative_path_is_located_absolutely(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_llama.parent)
    assert weights.locate(tiny_llama.name) == str(tiny_llama)
    assert weights.locate("phi-3-mini") == "phi-3-mini"


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("smollm2-135", "did you mean smollm2-135m"),
        ("/no/such/folder", "does not exist"),
        ("./no-such.gguf", "does not exist"),
        ("a/b/c", "no model is called"),
    ],
)
def test_what_is_no_model_is_refused(ref: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        weights.resolve(ref)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no weights: expected model\.safetensors"):
        weights.resolve(str(folder))


def test_pickles_are_never_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin is a pickle"):
        weights.resolve(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer"])
def test_a_folder_without_config_or_tokenizer_is_refused(folder: Path, name: str) -> None:
    for path in folder.glob(f"{name}*"):
        path.unlink()
    with pytest.raises(InputError, match=f"{name}"):
        weights.resolve(str(folder))


def test_missing_shards_are_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"lacks 1 of its 2 weight files: model-2\.safetensors"):
        weights.resolve(str(folder))


def test_of_two_gguf_files_none_is_guessed(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"name the one that is meant \(a.gguf, b.gguf\)"):
        weights.resolve(str(tmp_path))


def test_the_fingerprint_is_of_the_content(tiny_llama: Path, folder: Path) -> None:
    first = weights.fingerprint(str(tiny_llama))
    assert weights.fingerprint(str(folder)) == first
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    changed = weights.fingerprint(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert len({first, changed, weights.fingerprint(str(folder))}) == 3


def test_the_fingerprint_of_what_is_not_here_says_so() -> None:
    assert weights.fingerprint("some-one/model") == "unfetched:some-one/model"
    assert weights.tokenizer_fingerprint("some-one/model") == "unfetched:some-one/model"
    assert weights.fingerprint("smollm2-135m").startswith("b179c9523d0e")  # known beforehand


def test_sizes_come_from_config_and_from_the_gguf_header(
    tiny_llama: Path, tiny_gguf_file: Path
) -> None:
    assert model_sizes.geometry(str(tiny_llama)) == Geometry(name=tiny_llama.name, **SIZES)
    assert model_sizes.geometry(str(tiny_gguf_file)) == Geometry(name="tiny.gguf", **SIZES)
    assert model_sizes.geometry("phi-3-mini") == Geometry.load("phi-3-mini")


def test_sizes_that_a_config_leaves_out_are_those_of_the_tensors(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "unheard-of"}')
    sizes = model_sizes.geometry(str(folder))
    whole = Geometry(name=folder.name, **SIZES)
    for name in ("layers", "hidden", "intermediate", "vocabulary", "tied_embeddings"):
        assert getattr(sizes, name) == getattr(whole, name)
    assert sizes.mixer_weights == whole.mixer_weights
    assert sizes.kv_bytes(Storage()) == whole.kv_bytes(Storage())


def test_a_config_without_sizes_is_explained() -> None:
    with pytest.raises(SimulatorError, match="gives no geometry: 'hidden_size'"):
        Geometry.from_config({"model_type": "unheard-of"}, "x")


@pytest.mark.parametrize("length", [0, 4, 30, 200, 3000])
def test_a_gguf_file_cut_off_in_its_header_is_refused(
    tiny_gguf_file: Path, tmp_path: Path, length: int
) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_gguf_file.read_bytes()[:length])
    with pytest.raises(InputError, match="cut off or is no GGUF file"):
        gguf_header.config_of(path)


def test_sizes_of_a_model_out_of_reach_are_asked_for() -> None:
    with pytest.raises(ResourceError, match="some-one/model is not in the cache of the hub"):
        model_sizes.geometry("some-one/model")


def test_no_torch_for_names_fingerprints_and_sizes(tiny_llama: Path) -> None:
    code = (
        "import sys\n"
        "from sweep.cli import doctor\n"
        "from sweep.inputs import model_ref as weights, model_sizes, models, text_files, texts\n"
        f"ref = {str(tiny_llama)!r}\n"
        "weights.fingerprint(ref), weights.locate(ref), models.present(ref)\n"
        "model_sizes.geometry(ref), texts.count('embedded-c4', ref, 64), doctor.report()\n"
        "text_files.fingerprint('wikitext2')\n"
        "heavy = {'torch', 'transformers', 'ray', 'numba', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
