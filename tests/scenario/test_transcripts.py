"""The transcripts beside this file are what the core does; `--rewrite` writes them anew."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from scenario.mail import ScenarioError
from scenario.script import Script

FILES = sorted(Path(__file__).parent.glob("*.txt"))

# A committed replica answers with a Commit, never with a RecoverOK: see recovery-1-committed.txt.
UNREACHABLE = {"case 1: committed", "case 13: committed"}

CASES = {
    "case 2: accepted",
    "case 3: owner answered",
    "case 4: no fast quorum",
    "case 5: validate",
    "case 6: nothing against",
    "case 7: a decided one against",
    "case 8: an owner outside the quorum",
    "case 9: wait",
    "case 10: decided against",
    "case 11: all decided for",
    "case 12: another waits with more",
    "case 13: accepted",
    "case 13: owner answered",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path, rewrite: bool) -> None:  # noqa: FBT001 - a fixture
    text = path.read_text()
    transcript = Script(text).transcript
    if rewrite:
        path.write_text(transcript)
    else:
        assert transcript.splitlines() == text.splitlines()


def test_the_page_of_groups_shows_what_happens() -> None:
    page = (Path(__file__).parents[2] / "docs" / "groups.md").read_text()
    shown = next(block for block in page.split("```") if block.startswith("text\nmulti P"))
    assert shown.removeprefix("text\n") in (Path(__file__).parent / "groups-dead-coordinator.txt").read_text()


def test_every_case_of_recovery_is_shown() -> None:
    shown = sum((Script(path.read_text()).coverage for path in FILES), Counter[str]())
    assert shown.keys() >= CASES
    assert not UNREACHABLE & shown.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_begins_with_its_story(path: Path) -> None:
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ("propose A x", "begin with a cluster"),
        ("cluster n=3\nexplode A", "no command explode"),
        ("cluster n=3\ncrash D", "no replica D"),
        ("cluster n=3\nshow 0.0", "written like A.0"),
        ("cluster n=3\ntick 5", "written like 200ms or 2s"),
        ("cluster n=3\npropose A x\ndeliver B->A", "no such message is under way"),
        ("cluster n=3\ncrash A\npropose A x", "A is down"),
        ("cluster n=3\nrestart A", "A is up"),
        ("cluster n=3\npropose A x\ncrash A\ncrash B\nfinish", "stuck"),
    ],
)
def test_a_script_that_cannot_be_played(commands: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(said)):
        Script(commands)
