"""Sweep files that went wrong: each way to spoil a good one takes text and a generator."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Spoil = Callable[[str, random.Random], str | bytes]


def _line(text: str, rng: random.Random, change: Callable[[str], str]) -> str:
    """The text with one of its lines that say something changed."""
    lines = text.split("\n")
    at = rng.choice([i for i, line in enumerate(lines) if line.strip() and line.strip()[0] != "#"])
    lines[at] = change(lines[at])
    return "\n".join(lines)


def _value(text: str, rng: random.Random, value: str) -> str:
    """The text with the value of one of its keys replaced."""
    places = list(re.finditer(r"([\w-]+): *([^\n,{}\[\]#]+)", text))
    place = rng.choice(places)
    return text[: place.start(2)] + value + text[place.end(2) :]


def _without(line: str, what: str) -> str:
    return line.replace(what, "", 1)


def deleted_line(text: str, rng: random.Random) -> str:
    return _line(text, rng, lambda line: "")


def doubled_line(text: str, rng: random.Random) -> str:
    return _line(text, rng, lambda line: f"{line}\n{line}")


def swapped_lines(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    a, b = rng.sample(range(len(lines)), 2)
    lines[a], lines[b] = lines[b], lines[a]
    return "\n".join(lines)


def other_type(text: str, rng: random.Random) -> str:
    kinds = ["true", "null", "[]", "{}", "[1, [2]]", "{a: {b: 1}}", "words", "''", "2020-01-01"]
    return _value(text, rng, rng.choice(kinds))


def huge_number(text: str, rng: random.Random) -> str:
    numbers = ["1e308", "-1e308", "9" * 25, "9" * 400, "-1", "0", "1e-300", "0x" + "f" * 40]
    return _value(text, rng, rng.choice(numbers))


def no_number(text: str, rng: random.Random) -> str:
    return _value(text, rng, rng.choice([".nan", ".inf", "-.inf", "1_000", "08", "1:30", "1e3"]))


def endless_range(text: str, rng: random.Random) -> str:
    steps = ["{from: 0, to: 1, step: 1e-12}", "{from: 1, to: 0, step: 0.1}"]
    steps += ["{from: 0.1, to: 0.9, step: 0}", "{from: 0, to: .inf, step: 1}", "{from: 0.1}"]
    return _value(text, rng, rng.choice(steps))


def unknown_key(text: str, rng: random.Random) -> str:
    place = rng.choice(list(re.finditer(r"([\w-]{3,}):", text)))
    key = place.group(1)
    at = rng.randrange(len(key) - 1)
    changed = key[:at] + key[at + 1] + key[at] + key[at + 2 :]
    return text[: place.start(1)] + changed + text[place.end(1) :]


def indented(text: str, rng: random.Random) -> str:
    return _line(text, rng, lambda line: " " * rng.randint(1, 3) + line)


def outdented(text: str, rng: random.Random) -> str:
    return _line(text, rng, lambda line: line.lstrip())


def tab(text: str, rng: random.Random) -> str:
    return _line(text, rng, lambda line: "\t" + line.lstrip())


def no_colon(text: str, rng: random.Random) -> str:
    return _line(text, rng, lambda line: _without(line, ":"))


def open_quote(text: str, rng: random.Random) -> str:
    return _value(text, rng, rng.choice(['"never closed', "'never closed", "|", ">-", "%", "@x"]))


def open_bracket(text: str, rng: random.Random) -> str:
    return _line(text, rng, lambda line: _without(line, rng.choice("]}")) + rng.choice("[{]}"))


def alias_bomb(text: str, rng: random.Random) -> str:
    levels = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    names = [f"*x{n}" for n in range(12)]
    levels += [f"x{n + 1}: &x{n + 1} [{', '.join([names[n]] * 10)}]" for n in range(11)]
    return "\n".join(levels) + "\n" + _value(text, rng, "*x11")


def merge_bomb(text: str, rng: random.Random) -> str:
    levels = ["m0: &m0 {a: 1}"]
    levels += [f"m{n + 1}: &m{n + 1} {{a{n}: *m{n}, b{n}: *m{n}, <<: *m{n}}}" for n in range(30)]
    return "\n".join(levels) + "\n" + _value(text, rng, "*m30")


def circle(text: str, rng: random.Random) -> str:
    return _value(text, rng, rng.choice(["&c [*c]", "&c {again: *c}", "*nothing", "{<<: 3}"]))


def deep(text: str, rng: random.Random) -> str:
    depth = rng.choice([200, 3000, 50_000])
    opened, closed = rng.choice([("[", "]"), ("{a: ", "}")])
    return _value(text, rng, opened * depth + "1" + closed * depth)


def long_text(text: str, rng: random.Random) -> str:
    return _value(text, rng, "x" * 300_000)


def code_tag(text: str, rng: random.Random) -> str:
    tags = ["!!python/object/apply:os.system ['false']", "!!python/name:os.system ''", "!mine 3"]
    return _value(text, rng, rng.choice([*tags, "!!binary aGk=", "!!set {a}", "!!float 3"]))


def cut_short(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text))]


def second_document(text: str, rng: random.Random) -> str:
    return text + "\n---\n" + rng.choice([text, "other: 1", ""])


def other_bytes(text: str, rng: random.Random) -> bytes:
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def other_encoding(text: str, rng: random.Random) -> bytes:
    cut = rng.randrange(len(text))
    latin = (text[:cut] + " é ü " + text[cut:]).encode("latin-1", "replace")
    choices = [text.encode("utf-16"), text.encode("utf-16-le"), latin, text.encode("utf-8-sig")]
    return rng.choice([*choices, text.encode("utf-32"), text.replace("\n", "\r").encode()])


def control_characters(text: str, rng: random.Random) -> bytes:
    at = rng.randrange(len(text))
    strange = rng.choice(["\x00", "\x07", "\x1b[2J", "\u2028", "\ufeff", "\U0001f600", "\x85"])
    return (text[:at] + strange + text[at:]).encode()


def no_mapping(text: str, rng: random.Random) -> str:
    return rng.choice(["", "\n\n", "# nothing\n", "3", "[1, 2]", "words", "null", "sweeps:", "---"])


SPOILS: tuple[Spoil, ...] = (
    deleted_line,
    doubled_line,
    swapped_lines,
    other_type,
    huge_number,
    no_number,
    endless_range,
    unknown_key,
    indented,
    outdented,
    tab,
    no_colon,
    open_quote,
    open_bracket,
    alias_bomb,
    merge_bomb,
    circle,
    deep,
    long_text,
    code_tag,
    cut_short,
    second_document,
    other_bytes,
    other_encoding,
    control_characters,
    no_mapping,
)


def spoiled(good: list[str], count: int, seed: int) -> list[tuple[str, bytes]]:
    """So many spoiled files, each with how it was spoiled; the same for the same seed."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        spoil = SPOILS[number % len(SPOILS)]
        made = spoil(rng.choice(good), rng)
        name = f"{number} {spoil.__name__}"
        found.append((name, made if isinstance(made, bytes) else made.encode()))
    return found
