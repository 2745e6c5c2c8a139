"""The diagrams of the documents are those that the command makes, and show what they are about."""

from __future__ import annotations

import pytest

from diagrams import PICTURES, pictures
from epaxos.simulation.picture.seen import Shown
from epaxos.simulation.picture.staged import STORIES, play


def kinds(shown: Shown) -> set[str]:
    return {arrow.kind for arrow in shown.arrows}


def test_the_documents_show_what_the_command_makes() -> None:
    for name, text in pictures():
        assert (PICTURES / name).read_text() == text, (
            f"{name}: run tools/diagrams, and look at what has changed"
        )


def test_the_stories_are_what_their_titles_say() -> None:
    fast, slow, recovery = (play(STORIES[name]) for name in ("fast-path", "slow-path", "recovery"))
    assert kinds(fast.around(())) == {"PreAccept", "PreAcceptOK", "Commit"}
    assert kinds(slow.around(())) == kinds(fast.around(())) | {"Accept", "AcceptOK"}
    assert {mark.text for mark in slow.marks} > {"A.0: fast path", "B.0: slow path"}
    assert [mark.text for mark in recovery.marks if mark.row == 0][-3:] == [
        "executes A.0",
        "answers the client of A.0",
        "crashes",
    ]
    assert {mark.row for mark in recovery.marks if mark.text == "executes A.0"} == {0, 1, 2}
    assert any(mark.text == "A.0: is recovered" for mark in recovery.marks)
    (crash,) = (life.end for life in recovery.lives if life.end is not None)
    assert all(arrow.lost for arrow in recovery.arrows if arrow.receiver == 0 and arrow.came > crash)


def test_what_concerns_one_instance_leaves_the_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = play(STORIES["slow-path"])
    (place,) = {mark.places for mark in slow.marks if mark.text == "B.0: slow path"}
    shown = slow.around(place)
    assert {arrow.places for arrow in shown.arrows} == {place}
    assert not any("A.0" in mark.text for mark in shown.marks)
    assert shown.left_out == 0
    monkeypatch.setattr("epaxos.simulation.picture.seen.MOST", 4)
    few = slow.around(place)
    assert (len(few.arrows), few.left_out) == (4, len(shown.arrows) - 4)
    assert few.end < shown.end
