from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep.errors import InputError, ResourceError
from sweep.inputs import models, text_files, texts

ROWS = ["", " = A title = \n", "", " One paragraph . \n", " Another , of two lines . \n", ""]


@pytest.fixture
def own_parts(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Documents in place of the embedded ones: 10, 30, 20, 40 and 10 characters."""
    parts = tuple(str(i) * length for i, length in enumerate((10, 30, 20, 40, 10)))
    monkeypatch.setattr(text_files, "documents", lambda text: parts)
    monkeypatch.setattr(text_files, "_KNOWN", {})
    return parts


def test_the_cut_falls_between_documents_next_to_the_middle(own_parts: tuple[str, ...]) -> None:
    calibration = text_files.read("embedded-wiki", calibration=True).split(text_files.BLANK_LINE)
    evaluation = text_files.read("embedded-wiki").split(text_files.BLANK_LINE)
    assert calibration == list(own_parts[:3])  # 60 of 110 characters; 40 would be farther off
    assert evaluation == list(own_parts[3:])


def test_raw_and_parquet_are_the_same_text(tmp_path: Path) -> None:
    raw, parquet = tmp_path / "x.raw", tmp_path / "x.parquet"
    raw.write_text("".join(row or " \n" for row in ROWS), encoding="utf-8")
    pq.write_table(pa.table({"id": range(len(ROWS)), "text": ROWS}), parquet)
    assert text_files.read(str(raw)) == text_files.read(str(parquet)) == "\n\n".join(ROWS)
    assert text_files.fingerprint(str(raw)) == text_files.fingerprint(str(parquet))


def test_the_only_text_column_is_taken_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "pages.parquet"
    pq.write_table(pa.table({"page": ["one", "two"]}), path)
    assert text_files.read(str(path)) == "one\n\ntwo"


def test_windows_cut_the_tokens_in_order(tiny_llama: Path, tiny_text_file: Path) -> None:
    ref, text = str(tiny_llama), str(tiny_text_file)
    ids = models.encode(ref, tiny_text_file.read_text())
    found = texts.windows(text, ref, 100)
    assert found.dtype == np.int64
    assert found.shape == (len(ids) // 100, 100)
    assert found.ravel().tolist() == ids[: found.size]
    assert texts.count(text, ref, 100) == len(found)


def test_the_cached_tokens_are_used_and_a_damaged_file_is_made_again(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "words.txt"
    path.write_text("many words " * 50)
    text, ref = str(path), str(tiny_llama)
    assert texts.count(text, ref, 50) is None  # not without a tokenizer
    first = texts.windows(text, ref, 50)
    with monkeypatch.context() as context:
        context.setattr(models, "encode", lambda *_: pytest.fail("tokenised again"))
        assert np.array_equal(texts.windows(text, ref, 50), first)
    (kept,) = (tmp_path / "cache" / "tokens").iterdir()
    kept.write_bytes(kept.read_bytes()[:-8])
    assert np.array_equal(texts.windows(text, ref, 50), first)
    path.write_text("other words " * 50)
    assert not np.array_equal(texts.windows(text, ref, 50), first)


def with_specials(tiny_llama: Path, folder: Path, *around: str) -> str:
    """The tiny model with a tokenizer that puts its special token `around` a text."""
    shutil.copytree(tiny_llama, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    special = {"SpecialToken": {"id": "<|end|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    single = [special] * around.count("before") + [text] + [special] * around.count("after")
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [0], "tokens": ["<|end|>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return str(folder)


def test_a_bos_token_stands_once_at_the_start_of_the_text(
    tiny_llama: Path, tiny_text_file: Path, tmp_path: Path
) -> None:
    plain = texts.tokens(str(tiny_text_file), str(tiny_llama))
    found = texts.tokens(str(tiny_text_file), with_specials(tiny_llama, tmp_path / "m", "before"))
    assert found.tolist() == [0, *plain.tolist()]


@pytest.mark.parametrize("around", [("before",), ("before", "before", "after")])
def test_windows_begin_as_the_tokenizer_begins_a_text(
    tiny_llama: Path, tiny_text_file: Path, tmp_path: Path, around: tuple[str, ...]
) -> None:
    text, ref = str(tiny_text_file), with_specials(tiny_llama, tmp_path / "m", *around)
    before, after = [0] * around.count("before"), [0] * around.count("after")
    plain = texts.tokens(text, str(tiny_llama)).tolist()
    room = 50 - len(before)
    body = plain + after
    own = [before + body[i : i + room] for i in range(0, len(body) - room + 1, room)]
    bare = [body[i : i + 50] for i in range(0, len(body) - 49, 50)]
    whole = before + body
    once = [whole[i : i + 50] for i in range(0, len(whole) - 49, 50)]
    for bos, expected in (("each-window", own), ("none", bare), ("first-window", once)):
        assert texts.windows(text, ref, 50, bos=bos).tolist() == expected
        assert texts.count(text, ref, 50, make=True, bos=bos) == len(expected)
        assert texts.count(text, ref, 50, bos=bos) == len(expected)
        chosen = texts.windows(text, ref, 50, bos=bos, chosen=[5, 2])
        assert chosen.tolist() == [expected[5], expected[2]]
    assert texts.before_text(ref).tolist() == before


@pytest.mark.parametrize("around", [(), ("after",)])
def test_without_a_bos_all_ways_are_one(
    tiny_llama: Path, tiny_text_file: Path, tmp_path: Path, around: tuple[str, ...]
) -> None:
    text, ref = str(tiny_text_file), with_specials(tiny_llama, tmp_path / "m", *around)
    first, *others = (texts.windows(text, ref, 50, bos=bos) for bos in texts.BOS)
    assert all(np.array_equal(first, other) for other in others)


def test_a_window_holds_a_token_beside_those_of_the_tokenizer(
    tiny_llama: Path, tiny_text_file: Path, tmp_path: Path
) -> None:
    ref = with_specials(tiny_llama, tmp_path / "m", "before", "before")
    with pytest.raises(InputError, match="at least 4 tokens, 2 of them the tokenizer's own"):
        texts.windows(str(tiny_text_file), ref, 3, bos="each-window")


WORDS = ("the", "cat", "1984", "sat", "on", "2026123", "mats", "don't", "naïve", "日本語", "...")
GAPS = (" ", " ", " ", "  ", "\n", "\n\n", "\n\n\n", ", ")


def prose(characters: int, seed: int = 0) -> str:
    """Words, numbers, blank lines and letters of several bytes."""
    rng = np.random.default_rng(seed)
    made = ""
    while len(made) < characters:
        made += WORDS[rng.integers(len(WORDS))] + GAPS[rng.integers(len(GAPS))]
    return made


def bpe(kind: str) -> Any:
    """A tokenizer of real merges: of bytes after GPT-2's splits, or of a text that is not split."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE, Unigram
    from tokenizers.trainers import BpeTrainer, UnigramTrainer
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind == "bytes":
        made = Tokenizer(BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer: Any = BpeTrainer(vocab_size=400, initial_alphabet=alphabet)
    elif kind == "whole":
        made = Tokenizer(BPE(unk_token="<unk>"))
        made.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        trainer = BpeTrainer(vocab_size=200, special_tokens=["<unk>"], max_token_length=12)
    else:
        made = Tokenizer(Unigram())
        trainer = UnigramTrainer(vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"])
    made.train_from_iterator([prose(60, seed) for seed in range(200)], trainer)
    made.add_special_tokens(["<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[(t, made.token_to_id(t)) for t in ("<s>", "</s>")],
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "PIECE", 300)
    monkeypatch.setattr(texts, "OVERLAP", 80)
    monkeypatch.setattr(texts, "MEETING", 4)
    monkeypatch.setattr(texts, "WHOLE_AT_MOST", 5000)


@pytest.mark.parametrize("kind", ["bytes", "whole"])
@pytest.mark.usefixtures("small_pieces")
def test_pieces_join_to_the_tokens_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = bpe(kind)
    monkeypatch.setattr(models, "tokenizer", lambda _: words)
    monkeypatch.setattr(models, "encode", lambda *_: pytest.fail("read whole"))
    for seed in range(40):
        content = prose(4000, seed) + ("1" * 700 if seed % 4 == 0 else "") + prose(900, seed + 1)
        whole = words(content)["input_ids"]
        assert [whole[0], whole[-1]] == words.convert_tokens_to_ids(["<s>", "</s>"])
        assert texts.encoded("m", content).tolist() == whole


@pytest.mark.usefixtures("small_pieces")
def test_a_tokenizer_of_another_kind_reads_a_text_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    words = bpe("unigram")
    monkeypatch.setattr(models, "tokenizer", lambda _: words)
    monkeypatch.setattr(models, "encode", lambda _, content: words(content)["input_ids"])
    content = prose(4000)
    assert texts.encoded("m", content).tolist() == words(content)["input_ids"]
    with pytest.raises(InputError, match=r"text long\.txt has .* can only read it whole"):
        texts.encoded("m", prose(5001), "long.txt")


def test_a_byte_order_mark_is_no_word(tmp_path: Path) -> None:
    for name in ("a.txt", "a.raw"):
        path = tmp_path / name
        path.write_bytes(b"one\ntwo\n")
        plain = text_files.read(str(path))
        path.write_bytes("one\ntwo\n".encode("utf-8-sig"))
        assert text_files.read(str(path)) == plain


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.txt", b"few words", "fewer than one window of 64"),
        ("latin.txt", "caf\xe9".encode("latin-1") * 50, "not UTF-8"),
        ("le.txt", ("words " * 50).encode("utf-16-le"), "NUL characters.*like UTF-16"),
        ("be.txt", ("words " * 50).encode("utf-16-be"), "NUL characters.*like UTF-16"),
        ("marked.txt", ("words " * 50).encode("utf-16"), "not UTF-8.*like UTF-16"),
        ("zero.raw", b"some words and a \0 " * 50, "NUL characters, so it is no UTF-8 text$"),
        ("page.html", b"<p>", "must end in .txt"),
        ("broken.parquet", b"PAR1 and no more", "no parquet file"),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    tiny_llama: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        texts.windows(str(tmp_path / name), str(tiny_llama), 64)


def test_a_parquet_file_with_several_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"question": ["a"], "answer": ["b"]}), path)
    with pytest.raises(InputError, match="which column\\? It has question, answer"):
        text_files.read(str(path))


def test_an_unknown_text_gets_the_nearest_name(tiny_llama: Path) -> None:
    with pytest.raises(InputError, match="did you mean embedded-wiki"):
        text_files.locate("embeded-wiki")
    with pytest.raises(InputError, match="no file that exists"):
        texts.windows("./nowhere.txt", str(tiny_llama), 64)


def test_a_window_of_one_token_is_refused(tiny_llama: Path, tiny_text_file: Path) -> None:
    with pytest.raises(InputError, match="at least 2 tokens"):
        texts.windows(str(tiny_text_file), str(tiny_llama), 1)


def test_names_stay_and_paths_become_absolute(
    tiny_text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_text_file.parent)
    assert text_files.locate("wikitext2") == "wikitext2"
    assert text_files.locate(tiny_text_file.name) == str(tiny_text_file)


def test_what_the_hub_would_give_is_said_when_it_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from sweep.inputs import text_files; from sweep.inputs import texts\n"
        "from sweep.errors import ResourceError\n"
        "assert not text_files.present('wikitext2')\n"
        "assert text_files.fingerprint('wikitext2', calibration=True) == 'unfetched:wikitext2'\n"
        "try:\n    text_files.read('wikitext2')\n"
        "except ResourceError as error:\n    print(error)\n"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))  # read when huggingface_hub is imported
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Salesforce/wikitext is not in the cache of the hub" in done.stdout
    assert "HF_HOME" in done.stdout


def test_fetched_text_that_is_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "documents", lambda text: ("not", "the", "text"))
    with pytest.raises(ResourceError, match="not the text expected"):
        text_files.read("embedded-wiki")


@pytest.mark.parametrize(("split", "name"), [("test", "wikitext2"), ("valid", None)])
def test_local_wikitext_is_the_published_one(
    shared_data: Path, split: str, name: str | None
) -> None:
    raw = shared_data / "wikitext-2-raw" / f"wiki.{split}.raw"
    rows = {"test": "test", "valid": "validation"}[split]
    parquet = shared_data / "wikitext" / "line_level" / f"{rows}.parquet"
    known = text_files.fingerprint(name or "wikitext2-validation")
    assert text_files.fingerprint(str(raw)) == text_files.fingerprint(str(parquet)) == known


@pytest.mark.slow
@pytest.mark.parametrize("name", ["embedded-wiki", "embedded-c4"])
def test_embedded_halves_are_the_known_ones(name: str) -> None:
    halves = [text_files.read(name, calibration) for calibration in (True, False)]
    assert text_files.BLANK_LINE.join(halves) == text_files.BLANK_LINE.join(
        text_files.documents(name)
    )
    assert 0.98 < len(halves[0]) / len(halves[1]) < 1.02
    assert "<doc" not in "".join(halves)


@pytest.mark.slow
def test_wikitext_has_the_tokens_of_the_gptq_protocol(shared_data: Path) -> None:
    path = str(shared_data / "wikitext" / "line_level" / "test.parquet")
    assert len(texts.tokens(path, "smollm2-135m")) == 304_978
    assert texts.windows(path, "smollm2-135m", 2048).shape == (148, 2048)
