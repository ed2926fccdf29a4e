"""The documentation holds together: citations have their section, links and anchors their place."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer.main
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from sweep.cli.app import app
from sweep.plan.grid import expand
from sweep.spec import file as spec

ROOT = Path(__file__).parents[1]
CODE = ("sweep", "methods", "simulator", "reports", "benchmarks", "tests")
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("benchmarks/*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
CITATION = re.compile(r"SEMANTICS((?: (?:\d+)(?:,| and\b)?)*)")
FILE = re.compile(
    r"(?<![\w/])(?:sweep|methods|simulator|reports|tests|docs)/[a-z_/]+\.(?:py|md|yaml)"
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tokens(path: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


def headings(path: Path) -> list[str]:
    """The text of every heading of a page, as a reader sees it."""
    return [
        "".join(child.content for child in inline.children or ())
        for heading, inline in zip(tokens(path), tokens(path)[1:], strict=False)
        if heading.type == "heading_open"
    ]


def anchors(path: Path) -> set[str]:
    """The anchors that a code forge makes of headings: words in lower case, joined by hyphens."""
    seen: Counter[str] = Counter()
    made = set()
    for heading in headings(path):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        made.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return made


def links(path: Path) -> Iterator[str]:
    """Where links and images of a page lead, those inside code left out."""
    for block in tokens(path):
        for token in block.children or ():
            target = token.attrGet("href") or token.attrGet("src")
            if target is not None:
                yield str(target)


def broken(path: Path) -> list[str]:
    """Links of a page to files or headings that do not exist; addresses elsewhere are not tried."""
    wrong = []
    for link in links(path):
        file, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (path.parent / file).resolve() if file else path
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    assert broken(path) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# Two words, `code` & more\n\n## Twice\n\n## Twice\n\n## Of γ\n\n[g](#of-γ) "
        "[a](#two-words-code--more) [b](#twice-1) [c](page.md) ![d](https://host/none.png)\n\n"
        "```\n[e](in-code.md)\n```\n\n[f](none.md) [g](#thrice) ![h](none.png) [i](../page.md)\n"
    )
    assert broken(page) == ["none.md", "#thrice", "none.png", "../page.md"]


def test_files_that_pages_name_exist() -> None:
    """`sweep/store.py` in a page is a file; what a changelog says was true when it was said."""
    named = [
        (name_of(page), path)
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for path in FILE.findall(page.read_text(encoding="utf-8"))
    ]
    assert len(named) > 10
    assert [(page, path) for page, path in named if not (ROOT / path).exists()] == []


def rows_of(path: Path) -> Iterator[list[str]]:
    """The cells of every row of a page's tables, as text."""
    cells: list[str] = []
    for token, inline in pairwise(tokens(path)):
        if token.type == "tr_open":
            cells = []
        elif token.type == "td_open":
            cells.append(inline.content)
        elif token.type == "tr_close" and cells:
            yield cells


def defined_in(path: Path) -> set[str]:
    """Names that a file defines, those inside a class as `Class.name`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    inside = {f"{c.name}.{name}" for c in classes for name in _bound_by(c.body)}
    return set(_bound_by(tree.body)) | inside


def _bound_by(body: Sequence[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_what_the_architecture_names_is_in_its_file() -> None:
    """`Driver._again` of a row, and `load` in `sweep/spec/file.py` of a sentence, are there."""
    page = ROOT / "docs" / "architecture.md"
    named = [
        (file.strip("`"), name)
        for _, file, *names in (row for row in rows_of(page) if len(row) == 3)
        for name in re.findall(r"`([^`]+)`", names[0])
    ]
    text = " ".join(page.read_text(encoding="utf-8").split())
    told = re.findall(r"`([\w.]+)` (?:in |\()`([\w/]+\.py)`", text)
    named += [(file, name) for name, file in told]
    assert len(named) > 50
    known = {file: defined_in(ROOT / file) for file, _ in named if (ROOT / file).exists()}
    assert [(f, name) for f, name in named if name not in known.get(f, ())] == []


def citations() -> Iterator[tuple[str, str]]:
    """(place, sections) of every citation of docs/semantics.md, as ("simulator/x.py:3", "4, 5")."""
    files = [file for folder in CODE for file in sorted((ROOT / folder).rglob("*.py"))]
    for path in [*files, *PAGES]:
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for cited in CITATION.finditer(line):
                yield f"{name_of(path)}:{number}", cited[1]


def test_every_citation_has_its_section() -> None:
    titles = headings(ROOT / "docs" / "semantics.md")
    sections = {title.partition(".")[0] for title in titles if title[0].isdigit()}
    cited = {place: re.findall(r"\d+", numbers) for place, numbers in citations()}
    assert len(cited) > 10
    assert [place for place, numbers in cited.items() if not numbers] == []
    assert [p for p, numbers in cited.items() if not sections.issuperset(numbers)] == []


def test_citations_of_several_sections_are_read() -> None:
    found = [cited[1] for cited in CITATION.finditer("SEMANTICS 4 and 5. (SEMANTICS 2, 3 and 6)")]
    assert [re.findall(r"\d+", numbers) for numbers in found] == [["4", "5"], ["2", "3", "6"]]


# -- the command line --------------------------------------------------------------------------


def commands(group: Any, words: str = "sweep") -> Iterator[tuple[str, Any]]:
    """Every command by its words, as "sweep trace export"; typer may bring a click of its own."""
    if not hasattr(group, "commands"):
        yield words, group
        return
    for name, command in group.commands.items():
        yield from commands(command, f"{words} {name}")


def options(command: Any) -> set[str]:
    """The long options of a command, --help left out."""
    names = [name for p in command.params for name in (*p.opts, *p.secondary_opts)]
    return {name for name in names if name.startswith("--")}


COMMANDS = dict(commands(typer.main.get_command(app)))


def sections(path: Path) -> dict[str, str]:
    """The text below each heading of a page, by heading."""
    lines = path.read_text(encoding="utf-8").splitlines()
    starts = [token.map[0] for token in tokens(path) if token.type == "heading_open" and token.map]
    ends = [*starts[1:], len(lines)]
    bodies = ("\n".join(lines[i + 1 : end]) for i, end in zip(starts, ends, strict=True))
    return dict(zip(headings(path), bodies, strict=True))


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_is_described_with_its_options(words: str) -> None:
    page = sections(ROOT / "docs" / "commands.md")
    bodies = [body for title, body in page.items() if f"{title} ".startswith(f"{words} ")]
    assert len(bodies) == 1, f"docs/commands.md has {len(bodies)} sections of {words}"
    assert set(OPTION.findall(bodies[0])) == options(COMMANDS[words])


def called() -> Iterator[tuple[str, str]]:
    """(place, line) of each line of code in the documentation that calls `sweep`."""
    for path in PAGES:
        for token in tokens(path):
            if token.type in ("fence", "code_block"):
                for line in token.content.replace("\\\n", " ").splitlines():
                    if line.strip().startswith("sweep "):
                        yield name_of(path), line.partition("  #")[0].strip()


def test_commands_in_the_documentation_exist() -> None:
    lines = list(called())
    assert len(lines) > 20
    for place, line in lines:
        words = max((w for w in COMMANDS if f"{line} ".startswith(f"{w} ")), key=len, default="")
        assert words, f"{place}: {line}"
        assert set(OPTION.findall(line)) <= options(COMMANDS[words]), f"{place}: {line}"


def test_the_sweep_file_of_the_readme_is_accepted(tmp_path: Path) -> None:
    (block,) = (t for t in tokens(ROOT / "README.md") if t.type == "fence" and t.info == "yaml")
    path = tmp_path / "my.yaml"
    path.write_text(block.content, encoding="utf-8")
    names = list(yaml.safe_load(block.content)["sweeps"])
    loaded = spec.load(path)
    for name in names:
        assert expand(spec.select(loaded, name)).points


# -- decision records --------------------------------------------------------------------------

RECORDS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))


@pytest.mark.parametrize("path", RECORDS, ids=name_of)
def test_a_decision_record_has_status_and_date_and_is_in_the_index(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    number, title = headings(path)[0].split(". ", 1)
    assert int(number) == int(path.name[:4])
    status = re.search(r"^Status: (accepted|proposed|superseded by \d+)\b", text, re.MULTILINE)
    date = re.search(r"^Date: (\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)
    assert status is not None
    assert date is not None
    index = (path.parent / "README.md").read_text(encoding="utf-8")
    (row,) = (line for line in index.splitlines() if f"]({path.name})" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == [number, f"[{title}]({path.name})", status[1], date[1]]
