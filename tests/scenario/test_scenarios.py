"""The protocol's story in transcripts: each file says what was done and what came of it.

`REWRITE_SCENARIOS=1` rewrites the files instead of comparing: read the difference before you keep it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.transcript import play

SCENARIOS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    text = path.read_text()
    played = play(text)
    if os.environ.get("REWRITE_SCENARIOS"):
        path.write_text(played)
    else:
        assert played == text


def test_there_are_scenarios() -> None:
    assert SCENARIOS
