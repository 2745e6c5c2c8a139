"""An annulled collection: who annuls it covers it like those who know it, or takes the slow path ever after (4.13)."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from epaxos.protocol.contract import Event, PeerStatus, Propose, Receive
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import NOP
from epaxos.protocol.quorums import make_quorums
from harness.commands import collect, put


class Three:
    """Three cores; `cut` holds the links (sender, receiver) over which nothing comes, `paths` what was decided."""

    def __init__(self) -> None:
        self.cores = [EPaxos(Settings(row, make_quorums(3)), Random(row)) for row in range(3)]
        self.cut: set[tuple[int, int]] = set()
        self.paths: list[str] = []

    def feed(self, row: int, event: Event[Any]) -> None:
        todo = deque([(row, event)])
        while todo:
            row, event = todo.popleft()
            effects = self.cores[row].on_event(event, 0.0)
            self.paths += [note.path for note in effects.commits]
            for receivers, message in (*effects.messages, *effects.promises, *effects.deferrable):
                todo += [(to, Receive(row, message)) for to in receivers if (row, to) not in self.cut]


def test_who_annuls_a_collection_stays_on_the_fast_path() -> None:
    three = Three()
    collection = InstanceId(0, 0)
    three.cut = {(1, 0), (2, 0), (0, 2)}
    three.feed(1, Propose(put(1, b"k")))  # A never hears of it
    three.feed(0, Propose(collect(2, -1, -1, -1)))  # reaches B alone, which adds its own
    three.cut |= {(0, 1)}
    for row in (1, 2):
        three.feed(row, PeerStatus(0, online=False))
    recoverer = three.cores[2]
    recoverer.state.begin(0.0)
    recoverer._recovery.start(collection)
    effects = recoverer.state.effects
    for receivers, message in effects.promises:
        for to in receivers:
            three.feed(to, Receive(2, message))
    annulled = recoverer.state.logs.get(collection)
    assert annulled is not None
    assert annulled.value is NOP
    three.paths.clear()
    three.feed(2, Propose(put(3, b"other")))
    assert three.paths == ["fast"]
