"""Every command in the README and in docs/ does what a reader who types it would see.

How documents are written for this is said in docs/contributing.md.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from documents import (
    PYTHON,
    Block,
    Command,
    DocumentError,
    output_matches,
    read_blocks,
    read_links,
    read_sections,
)
from live_cluster import ROOT
from workspace import DATA, Workspace

DOCUMENTS = [file for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if file.exists()]

SHORTENED = {
    "tools/demo": "test -x tools/demo",  # tests/integration/test_tools.py runs it
    "tools/chaos --faults kill --duration 6s --interval 2s": "test -x tools/chaos",  # as test_chaos.py does
    "tools/test": "test -x tools/test",  # this runs in it
}
SWEEP = {
    r"--seeds 0:\d+": "--seeds 3:5",  # those seeds are short
    r"--control \d+": "--control 2",
    r"(bench .*--duration) 2s": r"\1 0.5s",
}
TOPOLOGY = "simulate --topology conf/regions-5.toml"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    space = Workspace(tmp_path)
    try:
        yield space
    finally:
        space.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_of_document(document: Path, request: pytest.FixtureRequest) -> None:
    if any(not block.marks.skip for block in read_blocks(document)):  # most decisions have none to run
        run_document(document, request.getfixturevalue("workspace"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_of_document_lead_somewhere(document: Path) -> None:
    for file, section in read_links(document):
        target = document.parent / file if file else document
        assert target.exists(), file
        assert not section or section in sections_of(target), f"{file}#{section}"


@cache
def sections_of(document: Path) -> set[str]:
    return read_sections(document)


def run_document(document: Path, workspace: Workspace) -> None:
    """Run all blocks of a document, in order."""
    for block in read_blocks(document):
        if not block.marks.skip:
            run_block(document, block, workspace)
    workspace.finish()


def run_block(document: Path, block: Block, workspace: Workspace) -> None:
    if block.marks.background:
        workspace.start_background([runnable(block, command, workspace) for command in block.commands])
        return
    if block.marks.cluster:
        workspace.start_cluster()
    else:
        workspace.stop_cluster()
    for command in block.commands:
        expected = block.marks.status if command is block.commands[-1] else 0
        status, printed = workspace.run(runnable(block, command, workspace))
        where = f"{document.name}:{command.line}: {command.text}"
        assert status == expected, f"{where}\nended with status {status}, not {expected}:\n{printed}"
        if block.marks.output:
            assert output_matches(command.shown, printed), f"{where}\nprinted:\n{printed}"


def runnable(block: Block, command: Command, workspace: Workspace) -> str:
    """The shell command that runs what a reader would type, shortened where that takes long."""
    if block.language == PYTHON:
        return f"python -c {shlex.quote(command.text)}"
    if re.search(r"\.venv/|\b(tools|benchmarks)/", command.text):
        workspace.share_environment()
    text = SHORTENED.get(command.text, command.text).replace(TOPOLOGY, f"{TOPOLOGY} --operations 400")
    for sweep, few in SWEEP.items():
        text = re.sub(sweep, few, text)
    return text


def document_with(directory: Path, text: str) -> Path:
    document = directory / "page.md"
    document.write_text(text)
    return document


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("```console\nepaxos get x\n```\n", r"page.md:1: no command in a console block"),
        ("text\n\n```\n$ epaxos get x\n```\n", r"page.md:3: commands stand in a block that is not fenced"),
        ("text\n\n    $ epaxos get x\n", r"page.md:3: commands stand in a block that is not fenced"),
        ("<!-- docs: skip -->\n```console\n$ ls\n```\n", r"page.md:1: 'skip' is no mark"),
        ("<!-- docs: skip slow -->\n```console\n$ ls\n```\n", r"page.md:1: 'skip slow' is no mark"),
        ("<!-- docs: clutser -->\n```console\n$ ls\n```\n", r"page.md:1: 'clutser' is no mark"),
        ("<!-- docs: cluster -->\n```toml\na = 1\n```\n", r"page.md:1: the mark stands before a block"),
        ("<!-- docs: cluster -->\n", r"page.md:1: the mark stands before no block"),
    ],
)
def test_block_not_written_as_agreed(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        read_blocks(document_with(tmp_path, text))


def test_commands_with_continuation_and_output(tmp_path: Path) -> None:
    text = "```console\n$ echo a \\\n    b\na b\n$ cat <<E\n> one\n> E\none\n```\n"
    [block] = read_blocks(document_with(tmp_path, text))
    assert block.commands == (
        Command(2, "echo a \\\n    b", ("a b",)),
        Command(5, "cat <<E\none\nE", ("one",)),
    )


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ((), "", True),
        (("took 1.5 s",), "took 1,234.25 s\n", True),
        (("took 1.5 s",), "took 1.5 ms\n", False),
        (("┃ a ┃ 1 ┃", "└────┘"), "┃ a ┃   1000 ┃\n└──────┘\n", True),
        (("first", "...", "last"), "first\nsecond\nthird\nlast\n", True),
        (("first", "...", "last"), "first\nsecond\n", False),
        (("first",), "first\nsecond\n", False),
    ],
)
def test_output_is_compared_without_numbers_and_widths(
    shown: tuple[str, ...], printed: str, *, same: bool
) -> None:
    assert output_matches(shown, printed) is same


def test_links_are_those_to_files(tmp_path: Path) -> None:
    text = "[a](b.md#part) [c](#part) [d](https://e.org/f.md) ![g](h.png)\n\n`[not](a-link.md)`\n"
    assert read_links(document_with(tmp_path, text)) == [("b.md", "part"), ("", "part"), ("h.png", "")]
    titles = "# All of `it`, and A\n\n```text\n# none\n```\n\n## 4.7 Recovery\n"
    assert read_sections(document_with(tmp_path, titles)) == {"all-of-it-and-a", "47-recovery"}


def test_commands_run_in_a_copy(tmp_path: Path, workspace: Workspace) -> None:
    text = "```console\n$ touch made-here\n```\n```python\nopen('made-here').close()\n```\n"
    run_document(document_with(tmp_path, text), workspace)
    assert (workspace.directory / "made-here").exists()
    assert not (ROOT / "made-here").exists()


def test_failing_command_is_reported(tmp_path: Path, workspace: Workspace) -> None:
    text = "```console\n$ true\n$ echo what happened; false\n```\n"
    with pytest.raises(AssertionError, match=r"page.md:3: .*\s+ended with status 1, not 0:\s+what happened"):
        run_document(document_with(tmp_path, text), workspace)


def test_marked_exit_status_and_output(tmp_path: Path, workspace: Workspace) -> None:
    text = "<!-- docs: exit 3 --><!-- docs: output -->\n```console\n$ echo 1\n2\n$ exit 3\n```\n"
    run_document(document_with(tmp_path, text), workspace)


def test_wrong_output_is_reported(tmp_path: Path, workspace: Workspace) -> None:
    text = "<!-- docs: output -->\n```console\n$ echo new\nold\n```\n"
    with pytest.raises(AssertionError, match=r"page.md:3: .*\s+printed:\s+new"):
        run_document(document_with(tmp_path, text), workspace)


def test_skipped_block_does_not_run(tmp_path: Path, workspace: Workspace) -> None:
    text = "<!-- docs: skip needs the network -->\n```console\n$ false\n```\n"
    run_document(document_with(tmp_path, text), workspace)


def test_background_command_runs_beside_the_next_block(tmp_path: Path, workspace: Workspace) -> None:
    server = "while true; do touch alive; sleep 0.1; done"
    text = (
        f"<!-- docs: background -->\n```console\n$ echo up; {server}\n```\n"
        "```console\n$ rm -f alive; sleep 0.5; test -e alive\n```\n"
    )
    run_document(document_with(tmp_path, text), workspace)


def test_background_command_that_ends_is_reported(tmp_path: Path, workspace: Workspace) -> None:
    text = "<!-- docs: background -->\n```console\n$ echo cannot start; exit 1\n```\n"
    with pytest.raises(AssertionError, match="ended with status 1:\ncannot start"):
        run_document(document_with(tmp_path, text), workspace)


def test_ports_of_commands_are_those_of_the_copy(workspace: Workspace) -> None:
    moved = workspace.moved("curl http://127.0.0.1:9264/metrics")
    port = moved.removeprefix("curl http://127.0.0.1:").removesuffix("/metrics")
    assert port != "9264"
    assert port in (workspace.directory / "conf" / "local.toml").read_text()


def test_cluster_block_finds_a_cluster_that_keeps_its_data(tmp_path: Path, workspace: Workspace) -> None:
    cluster = "<!-- docs: cluster -->\n<!-- docs: output -->\n```console\n"
    text = (
        f"{cluster}$ epaxos put -c conf/local.toml greeting hello\n...\n```\n"
        f"{cluster}$ epaxos get -c conf/local.toml greeting\nhello\n```\n"
        "<!-- docs: exit 3 -->\n```console\n$ EPAXOS_CLIENT_TIMEOUT=100ms epaxos get -c conf/local.toml greeting\n```\n"
        "<!-- docs: cluster -->\n<!-- docs: exit 1 -->\n```console\n$ epaxos get -c conf/local.toml greeting\n```\n"
    )
    run_document(document_with(tmp_path, text), workspace)
    assert not (workspace.directory / DATA).exists()


def test_cluster_block_does_not_find_what_background_commands_have_left(
    tmp_path: Path, workspace: Workspace
) -> None:
    text = (
        f"<!-- docs: background -->\n```console\n$ mkdir {DATA}; touch {DATA}/left; echo; sleep 60\n```\n"
        f"<!-- docs: cluster -->\n```console\n$ test ! -e {DATA}/left\n```\n"
    )
    run_document(document_with(tmp_path, text), workspace)
