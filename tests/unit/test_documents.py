"""What the documents name exists, and what exists they name: files, sections, messages, commands, codes, folders."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from epaxos.cli.failures import Exit
from epaxos.cli.main import ENTRIES
from epaxos.config.keys import KEYS
from epaxos.simulation.checkers.violation import Verdict
from epaxos.transport.pages import EPAXOS_PAGE, MULTIPAXOS_PAGE, Page
from mutants.catalogue import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
DOCS = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
CLI = DOCS["cli.md"]
PROTOCOL = DOCS["protocol.md"]


def files(*places: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *places], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.decode().splitlines()]


def first_cells(text: str, heading: str) -> list[str]:
    """What stands between backticks or alone in the first column of the table with that heading."""
    _, found, rest = text.partition(f"\n| {heading} |")
    assert found, f"no table with the heading {heading}"
    rows = rest.split("\n\n", 1)[0].splitlines()[2:]
    return [row.split("|")[1].strip() for row in rows]


@pytest.mark.parametrize("name", sorted(DOCS))
def test_modules_and_scenarios_that_a_document_names_exist(name: str) -> None:
    about_the_package = name in {"protocol.md", "architecture.md"}
    there = {
        path.name
        for path in files("epaxos", "tests", *(() if about_the_package else ("benchmarks", "tools")))
    }
    assert set(re.findall(r"`(?:[\w/]+/)?([\w-]+\.(?:py|txt))`", DOCS[name])) <= there


def test_places_in_the_protocol_that_the_program_cites_exist() -> None:
    there = set(re.findall(r"^#+ (\d(?:\.\d+)?)\.? ", PROTOCOL, re.MULTILINE))
    for path in files("epaxos", "tests", "tools"):
        if path.suffix == ".py":
            cited = set(re.findall(r"\bprotocol (\d(?:\.\d+)?)", path.read_text()))
            assert cited <= there, path


def test_places_in_the_protocol_that_it_cites_itself_exist() -> None:
    there = set(re.findall(r"^#+ (\d\.\d+) ", PROTOCOL, re.MULTILINE))
    assert set(re.findall(r"[( ]([34]\.\d+)\b(?! ?[a-zA-Z]*s\b)", PROTOCOL)) <= there


@pytest.mark.parametrize(
    ("document", "page"), [("protocol.md", EPAXOS_PAGE), ("multipaxos.md", MULTIPAXOS_PAGE)]
)
def test_the_table_of_messages_has_all_of_them(document: str, page: Page) -> None:
    named = {name for cell in first_cells(DOCS[document], "message") for name in cell.split(", ")}
    assert named == set(page.names.values())


def test_places_in_multipaxos_that_the_program_cites_exist() -> None:
    there = set(re.findall(r"^## (\d)\. ", DOCS["multipaxos.md"], re.MULTILINE))
    rules = set(re.findall(r"^\| (\d+) \|", DOCS["multipaxos.md"], re.MULTILINE))
    for path in files("epaxos", "tests", "tools"):
        if path.suffix == ".py":
            text = path.read_text()
            assert set(re.findall(r"\bmultipaxos (\d)\b", text)) <= there, path
            assert set(re.findall(r"\bmultipaxos 2, (?:rules? )?(\d+)\b", text)) <= rules, path


def test_every_command_has_its_line() -> None:
    named = {
        word for cell in first_cells(CLI, "Command") for word in re.findall(r"`([\w-]+)(?: \w+)?`", cell)
    }
    assert named >= set(ENTRIES)


def test_every_exit_code_has_its_line() -> None:
    codes = {int(code) for cell in first_cells(CLI, "Code") for code in re.findall(r"\d+", cell)}
    assert codes == {*Exit, *Verdict}


def test_every_folder_has_its_line() -> None:
    layout = DOCS["contributing.md"]
    for parent in ("epaxos", "tests"):
        block = re.split(r"\n    \w", re.split(rf"\n    {parent}/\s", layout, maxsplit=1)[1], maxsplit=1)[0]
        named = re.findall(r"^ {6}(\w+)/ ", block, re.MULTILINE)
        places = [path.relative_to(ROOT / parent).parts for path in files(parent)]
        assert set(named) == {parts[0] for parts in places if len(parts) > 1}


ROW_COUNTS = (("P", 18), ("C", 10), ("K", 11), ("M", 11), ("B", 8), ("S", 11))
ROWS = re.findall(r"^\| ([PCKMBS])(\d+|\+) \| (.+) \| (.+) \|$", DOCS["rows.md"], re.MULTILINE)
"""Of the page that compares with others: letter and number of a row, the capability, what shows it."""


def test_no_row_is_left_out() -> None:
    numbered = [letter + number for letter, number, *_ in ROWS if number != "+"]
    assert numbered == [f"{letter}{at + 1}" for letter, count in ROW_COUNTS for at in range(count)]


@pytest.fixture(scope="module")
def there() -> set[str]:
    """All that a row may name: tests, files of tests and tools, mutants, commands and keys of the configuration."""
    tests = files("tests")
    names = {*(key.name for key in KEYS), *(mutant.name for mutant in MUTANTS), "lint-imports"}
    names |= {path.name for path in tests}
    names |= {str(path.relative_to(ROOT)) for path in files("tools", "benchmarks")}
    for path in tests:
        if path.suffix == ".py":
            names |= set(re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    return names


@pytest.mark.parametrize(
    ("capability", "shown"), [row[2:] for row in ROWS], ids=[f"{row[0]}{row[1]}" for row in ROWS]
)
def test_every_row_names_what_shows_it(there: set[str], capability: str, shown: str) -> None:
    del capability
    quoted = re.findall(r"`([^`]+)`", shown)
    named = [words for words in quoted if words.split()[0] != "epaxos"]
    commands = {words.split()[1] for words in quoted if words not in named}
    assert {words.split()[0] for words in named} <= there
    assert commands <= set(ENTRIES)
    assert quoted or re.match(r"decided against: \w+|not there yet, \w+", shown)
