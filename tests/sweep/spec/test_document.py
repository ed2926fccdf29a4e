"""Reading YAML with lines: traps of YAML 1.1, duplicate keys, aliases, files that are no YAML."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sweep.spec import document as yamlfile
from sweep.spec.document import Document


def parsed(text: str) -> Document:
    document = Document("s.yaml")
    yamlfile.parse(text, document)
    return document


def test_values_and_the_line_of_each():
    document = parsed(
        "a: 1\nb:\n  - {c: 0.5}\n  -\n    d: true\ne: 'on'\nf: ~\ng: 0x1f\nh: -3.0e-2\n"
    )
    assert document.value == {
        "a": 1,
        "b": [{"c": 0.5}, {"d": True}],
        "e": "on",
        "f": None,
        "g": 31,
        "h": -0.03,
    }
    assert document.lines() == []
    assert document.place(("b", 0, "c")) == "s.yaml:3"
    assert document.place(("b", 1, "d")) == "s.yaml:5"
    assert document.place(("b", 1, "d", "deeper", 7)) == "s.yaml:5"
    assert document.place(()) == "s.yaml:1"


@pytest.mark.parametrize(
    ("text", "value", "fault"),
    [
        ("on", True, "on is read as true by YAML; write true, or quote it to mean text"),
        ("No", False, "No is read as false by YAML; write false, or quote it to mean text"),
        ("010", 8, "010 is read as 8 by YAML; write 10, or quote it to mean text"),
        ("-017", -15, "-017 is read as -15 by YAML; write -17, or quote it to mean text"),
        ("1_000", 1000, "1_000 is read as 1000 by YAML; write 1000, or quote it to mean text"),
        ("0b101", 5, "0b101 is read as 5 by YAML; write 5, or quote it to mean text"),
        ("1_0.5", 10.5, "1_0.5 is read as 10.5 by YAML 1.1 only; write 10.5"),
        ("1:30", 0, "1:30 is read as a number to base 60 by YAML; quote it to mean text"),
        ("1:30.5", 0, "1:30.5 is read as a number to base 60 by YAML; quote it to mean text"),
        ("9" * 40, 0, f"{'9' * 30}... is too large a number"),
    ],
)
def test_scalars_that_surprise_are_faults(text, value, fault):
    document = parsed(f"a:\n  b: {text}")
    assert document.value == {"a": {"b": value}}
    assert document.lines() == [f"s.yaml:2: a.b: {fault}"]


@pytest.mark.parametrize(
    "text", ["1e-3", "08", "0o17", "2024-01-01", "=", "'0.5'", '"no"', "1.5e3"]
)
def test_what_yaml_takes_for_text_stays_text(text):
    document = parsed(f"a: {text}")
    assert document.value == {"a": text.strip("'\"")}
    assert document.lines() == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "s.yaml:3: a: is given twice; the first is in line 1"),
        ("x: {a: 1, a: 2}", "s.yaml:1: x.a: is given twice; the first is in line 1"),
        ("on: 1", "s.yaml:1: the key on is read as true or false; quote it: 'on'"),
        ("a: {5: 1}", "s.yaml:1: a: the key 5 is read as a number; quote it: '5'"),
        ("? [1]\n: 2", "s.yaml:1: a key must be text"),
        ("a: &x [*x]", "s.yaml:1: a[0]: an alias to line 1, which contains the alias itself"),
        ("a: !!python/name:os.system", "the tag !!python/name:os.system is not allowed"),
        ("a: !mine 3", "s.yaml:1: a: the tag !mine is not allowed; write plain YAML"),
        ("a: !!int x", "the tag !!int is not allowed"),
        ("a: !!set {b}", "the tag !!set is not allowed"),
        ("<<: 3", "<< takes a mapping"),
        ("a: [1", "s.yaml:1: not valid YAML: expected ',' or ']'"),
        ("a:\n\t- b", "s.yaml:2: not valid YAML: a tab where YAML allows only spaces"),
        ("a: 1\n---\nb: 1", "s.yaml:2: not valid YAML: a second document begins here"),
        ("a: *b", "not valid YAML: found undefined alias 'b'"),
        ("a: \x01", "not valid YAML: unacceptable character"),
        ("# nothing\n", "s.yaml: the file is empty"),
        ("[" * 1200, "nested too deeply"),
        ("a: " + "[" * 60 + "]" * 60, "nested more than 40 levels deep"),
    ],
)
def test_each_fault_is_one_line(text, line):
    lines = parsed(text).lines()
    assert len(lines) == 1
    assert line in lines[0]


def test_faults_come_in_the_order_of_the_file():
    lines = parsed("a: on\nb: 1\nc: 010\nb: 2\n").lines()
    assert [line.split(": ")[0] for line in lines] == ["s.yaml:1", "s.yaml:3", "s.yaml:4"]


def test_aliases_and_merge_keys():
    document = parsed("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{z: 4}, *a]}\nd: *a\n")
    assert document.lines() == []
    assert document.value["b"] == {"x": 1, "y": 3}
    assert document.value["c"] == {"z": 4, "x": 1, "y": 2}
    assert document.value["d"] == {"x": 1, "y": 2}
    assert document.place(("b", "y")) == "s.yaml:2"


def test_the_place_of_what_is_merged_is_where_it_is_written():
    text = (
        "a:\n  <<: &small {x: 1,\n             y: [2, on]}\n  z: 3\n"
        "b:\n  <<: *small\n  x: 4\n"
        "c:\n  <<: &both {<<: *small, x: 5}\n"
    )
    document = parsed(text)
    assert document.value["c"] == {"x": 5, "y": [2, True]}
    assert document.place(("b", "x")) == "s.yaml:7"
    assert document.place(("b", "y", 1)) == "s.yaml:3"
    assert [line.split(": on is")[0] for line in document.lines()] == [
        "s.yaml:3: a.y[1]",
        "s.yaml:3: b.y[1]",
        "s.yaml:3: c.y[1]",
    ]


def test_a_billion_laughs_fail_at_once():
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for i in range(1, 12):
        text += f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n"
    started = time.perf_counter()
    document = parsed(text)
    assert time.perf_counter() - started < 5
    assert document.value is None
    assert document.lines() == ["s.yaml:1: more than 100,000 values once aliases are followed"]


def test_files_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "sweeps.yaml").write_text("a: 1")
    (tmp_path / "binary.yaml").write_bytes(b"\x7fELF\xff\xfe\x00")
    (tmp_path / "large.yaml").write_bytes(b"#" * (yamlfile.MAX_BYTES + 1))
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1")

    def only(name: str) -> str:
        (line,) = yamlfile.read(tmp_path / name).lines()
        return line.removeprefix(f"{tmp_path / name}: ")

    assert only("sweep.yaml") == f"no such file; did you mean {tmp_path / 'sweeps.yaml'}?"
    assert only("q").startswith("no such file; YAML files beside it: ")
    assert only("no/folder.yaml") == "no such file"
    assert only("") == "is a folder; a YAML file is expected"
    assert only("binary.yaml").startswith("is not a text file in UTF-8")
    assert only("large.yaml").startswith("is too large for a sweep file")
    assert yamlfile.read("/dev/null").lines() == [
        "/dev/null: is not a regular file; a YAML file is expected"
    ]
    assert yamlfile.read(tmp_path / "bom.yaml").value == {"a": 1}


def test_control_characters_of_the_input_never_reach_the_terminal():
    (line,) = parsed('"a\\e[31m\\nb": 010').lines()
    assert "\x1b" not in line
    assert "\n" not in line
