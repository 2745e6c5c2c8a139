"""Transactions from seeds, the stories that docs/commit.md tells, and records as bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from epaxos.errors import Refused
from epaxos.protocol.commit import Transaction, Vote, checked, decode, encode, recover, run
from epaxos.simulation.commit import Actor, World, run_seed

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "commit.md").read_text()


def test_seeds_are_clean_and_meet_what_matters() -> None:
    marks: Counter[str] = Counter()
    for seed in range(250):
        result = run_seed(seed)
        assert not result.verdict, f"seed {seed}: {result.text}"
        marks += result.marks
    usual = ("committed", "aborted", "forgotten", "killed", "came late", "patience ended", "recovery begun")
    assert all(
        marks[name]
        for name in (
            *usual,
            "vote cast when all was over",
            "prepared after it was aborted",
            "first vote came back",
        )
    )


class Story(World):
    """A bank and a shop, both willing."""

    def __init__(self) -> None:
        names = ("bank", "shop")
        super().__init__(Transaction("t7", names), dict.fromkeys(names, Vote.PREPARED))

    def manage(self) -> Actor:
        return self.start("manager", run(self.transaction, self.transaction.resources))

    def rescue(self, name: str, *here: str) -> None:
        self.finish(self.start(name, recover(self.transaction, here)))

    def finish(self, actor: Actor) -> None:
        while not actor.over:
            self.step(actor)


def everything_goes_well(story: Story) -> None:
    story.finish(story.manage())


def the_manager_is_killed(story: Story) -> None:
    manager = story.manage()
    for _ in range(4):
        story.step(manager)
    story.crash(manager)
    story.rescue("bank", "bank")
    story.rescue("shop", "shop")


def the_manager_is_slow(story: Story) -> None:
    manager = story.manage()
    story.step(manager)
    story.rescue("helper", "bank", "shop")
    story.finish(manager)


@pytest.mark.parametrize("tell", [everything_goes_well, the_manager_is_killed, the_manager_is_slow])
def test_stories_of_the_document_are_what_happens(tell: Callable[[Story], None]) -> None:
    story = Story()
    tell(story)
    assert "\n".join(story.log) in PAGE, "\n".join(story.log)
    assert not story.registers


NAMES = some.text("azAZ09._-", min_size=1, max_size=20)


@settings(max_examples=30)
@given(NAMES, some.lists(NAMES, min_size=1, max_size=9, unique=True), some.binary(max_size=99))
def test_records_come_back(id_: str, names: list[str], meta: bytes) -> None:
    transaction = checked(Transaction(id_, tuple(names), meta))
    assert decode(id_, encode(transaction)) == transaction


@pytest.mark.parametrize("record", [b"", b"\n", b"a", b"a a\n", b"a  b\n", b" a\n", b"a/b\n", "ä\n".encode()])
def test_records_that_are_none_are_refused(record: bytes) -> None:
    with pytest.raises(Refused, match=r"the register of transaction t holds .*, which names no resources"):
        decode("t", record)
