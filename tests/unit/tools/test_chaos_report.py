"""A run is fine only if every claim holds; what was not decided is no pass."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from rich.console import Console

from chaos.faults import Delay, Pause
from chaos.gaps import Gap
from chaos.ledger import Audit
from chaos.report import Goal, Report
from chaos.settle import disagreement
from chaos.timeline import ALL, Timeline
from epaxos.simulation.checkers.search import Finding, Linearizability

UNDECIDED = Finding(Linearizability.UNDECIDED, "too hard")
VIOLATION = Finding(Linearizability.VIOLATION, "impossible")


def report(*, judged: bool = True) -> Report:
    made = Report(seed=1, timeout=0.5, judged=judged, seconds=10.0, rounds=1)
    made.recorded, made.epochs, made.compared = 100, 2, 1
    made.gaps = {"kill": Gap(1.5, 1.6, "kill bravo", "alpha"), "pause": Gap(0.2, 3.0, "pause alpha", "bravo")}
    return made


def test_report_that_is_fine() -> None:
    assert report().fine
    assert json.loads(json.dumps(report().as_dict()))["longest_gap"]["fault"] == "kill bravo"


@pytest.mark.parametrize(
    "change",
    [
        {"findings": [VIOLATION]},
        {"findings": [UNDECIDED]},
        {"epochs": 0},
        {"gaps": {"kill": Gap(1.51, 1.6, "kill bravo", "alpha")}},
        {"gaps": {}},
        {"errors": {"NoAnswer": 1}},
        {"apart": ["the replicas hold different states"]},
        {"audits": [Audit(5, 0, 0, []), Audit(5, 0, 0, ["a mark is lost"])]},
        {"goal": Goal(kills=1)},
        {"goal": Goal(all_down=1)},
        {"all_down": 1, "longest_return": 5.01},
        {"watchers": 2, "witnessed": 1, "watched": Counter(changes=5), "missed": ["a change is lost"]},
        {"watchers": 2, "witnessed": 1},
        {"untimely": ["a value has gone before its time"]},
        {"shared": ["a lock has two holders"]},
    ],
)
def test_one_claim_that_does_not_hold_is_enough(change: dict[str, Any]) -> None:
    made = report()
    for name, value in change.items():
        setattr(made, name, value)
    assert not made.fine


def test_the_longest_wait_says_why_its_command_was_sent_again() -> None:
    made = report()
    assert "; sent again: " not in shown(made)
    made.gaps = {"kill": Gap(1.4, 1.6, "kill bravo", "alpha", "1 lost, 2 silent")}
    assert "after: kill bravo; sent again: 1 lost, 2 silent" in " ".join(shown(made).split())


def test_errors_at_faulty_replicas_are_told_and_excused() -> None:
    made = report()
    made.excused["NoAnswer"] = 7
    assert made.fine
    assert "at faulty replicas 7 NoAnswer" in shown(made)


def test_with_too_many_faulty_nobody_is_promised_an_answer_but_a_right_one() -> None:
    made = report(judged=False)
    made.gaps = {"cut": Gap(99.0, 1.0, "cut", "alpha")}
    made.errors["NoAnswer"] = 7
    assert made.fine
    made.findings = [VIOLATION]
    assert not made.fine


def test_states_are_not_judged_where_no_majority_is_left() -> None:
    made = report()
    made.compared = 0
    assert made.fine
    assert made.verdicts()[-1].holds is None


def test_what_watchers_saw_is_told_and_judged_where_a_majority_is_left() -> None:
    made = report()
    made.watchers = 7
    assert made.verdicts()[-1].holds is None
    made.witnessed = 1
    made.watched.update(changes=1234, resumes=5, gaps=1, keys=60, excused=2)
    assert made.fine
    assert made.verdicts()[-1].figures == (
        "1,234 changes by 7, 5 resumes, 1 gaps told; 58 keys judged, 2 in everybody's gaps"
    )


def test_goal_needs_all_its_parts() -> None:
    assert not Goal().is_reached(9, 9)
    assert Goal(kills=3).is_reached(3, 0)
    assert not Goal(kills=3, all_down=1).is_reached(9, 0)
    assert Goal(kills=3, all_down=1).is_reached(3, 1)


def test_report_counts_kills_by_what_the_victim_was_about() -> None:
    made = report()
    made.kills.update({"running": 3, "catching up": 1})
    made.all_down, made.longest_return, made.restarts = 1, 5.0, 4
    made.audits.append(Audit(1000, 3, 2, []))
    made.done.update({"resumes": 4, "resumes with open instances": 2})
    made.made.update({"added": 2, "disks replaced": 1})
    made.changes.update({"done": 3, "superseded": 1})
    assert made.fine
    text = shown(made)
    assert "4 SIGKILLs: 1 catching up, 3 running; all replicas together 1 times" in text
    assert "4 resumes, 2 of them with open instances" in text
    assert "1,000 answered, 2 of 3 others executed" in text
    assert "3 changes of members: 2 added, 1 disks replaced; requests for them: 3 done, 1 superseded" in text


def test_report_names_what_is_wrong() -> None:
    made = report()
    made.findings = [UNDECIDED]
    made.faults["kill"] = 1
    text = shown(made)
    assert "UNDECIDED, too hard to search" in text
    assert "undecided: too hard" in text
    assert "1.50 s, 3.00 time-outs, at alpha, 1.6 s after: kill bravo" in text


def shown(made: Report) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        made.show(console)
    return capture.get()


def test_page_shows_what_was_done_when_and_what_came_of_it() -> None:
    from chaos.page import bars_of, chaos_page  # noqa: PLC0415 - matplotlib takes a second in all who share the tests

    names = ("alpha", "bravo")
    made, timeline = report(), Timeline(names, 20.0)
    made.timeline = timeline
    for begin in (100.0, 200.0):  # two rounds
        timeline.begin(begin)
        fault, delay = Pause("alpha"), Delay((), "all links", 0.1)
        for second in range(1, 10):
            timeline.answered("bravo", begin + second - 0.5, begin + second, commands=5)
        timeline.strike(fault, begin + 2)
        timeline.strike(delay, begin + 3)
        timeline.heal(fault, begin + 4)
        timeline.end(begin + 10)
        timeline.answered(
            "bravo", begin + 20, begin + 21
        )  # after the end of the load: what is read to compare
    told: Any = made.as_dict()
    assert [(bar.lane, bar.kind, bar.begin, bar.end) for bar in bars_of(told["events"])] == [
        ("alpha", "pause", 2, 4),
        ("alpha", "pause", 12, 14),
        (ALL, "delay", 3, 10),
        (ALL, "delay", 13, 20),
    ]
    assert sum(told["series"]["replicas"]["bravo"]["operations"]) == 90
    assert max(told["series"]["replicas"]["bravo"]["longest_ms"]) == 500
    text = chaos_page(made, ["tools/chaos", "--seed", "1"])
    for words in (
        "all claims hold",
        "the history is linearizable",
        "tools/chaos --seed 1",
        " pause<",
        "cluster<",
    ):
        assert words in text


def status(**changes: Any) -> dict[str, Any]:
    done = {
        "epoch": 0,
        "seen": [5, 2],
        "committed": [5, 2],
        "executed": [5, 2],
        "pending": 0,
        "in_flight": 0,
        "digest": "d",
    }
    return done | changes


def test_replicas_that_are_done_and_alike() -> None:
    assert disagreement({"alpha": status(), "bravo": status()}) == ""


@pytest.mark.parametrize(
    ("other", "wrong"),
    [
        ({"error": "timed out"}, "bravo does not answer: timed out"),
        (status(pending=1), "bravo has not executed 1 instances"),
        (status(in_flight=2), "nor decided 2"),
        (status(seen=[6, 2]), r"bravo: heard of [6, 2], decided [5, 2]"),
        (status(executed=[5, 1]), "executed [5, 1]"),
        (status(seen=[5, 3], committed=[5, 3], executed=[5, 3]), "executed different instances"),
        (status(epoch=1), "different epochs: alpha 0, bravo 1"),
        (status(digest="e"), "hold different states: alpha d, bravo e"),
    ],
)
def test_replicas_that_are_not(other: dict[str, Any], wrong: str) -> None:
    assert wrong in disagreement({"alpha": status(), "bravo": other})
