"""What waits for what in a running replica, drawn: the part of the dependency graph that does not get on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from epaxos.inspection.graph import Node, make_graph, reduced
from epaxos.inspection.svg import draw
from epaxos.inspection.wording import place_name
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Instance, Phase

ASKED_FOR: Final = 200
"""Instances of which the replica is asked: the lowest, which keep the others waiting."""

_SHOWN: Final = 12

_WORDS: Final[Mapping[Phase, str]] = {
    Phase.INITIAL: "initial",
    Phase.PREACCEPTED: "preaccepted",
    Phase.ACCEPTED: "accepted",
    Phase.COMMITTED: "waiting",
}


class Waiting:
    """Tells instances that have just come from those that do not get on: which were there at the last look too."""

    def __init__(self) -> None:
        self._since: dict[InstanceId, float] = {}
        self._records: dict[InstanceId, dict[str, Any]] = {}

    def look(self, told: Sequence[dict[str, Any]], at: float) -> None:
        """Take what a replica has told of `waiting` at a time."""
        self._records = {InstanceId(entry["row"], entry["slot"]): entry for entry in told}
        self._since = {place: self._since.get(place, at) for place in self._records}

    def stuck(self, at: float, patience: float) -> list[InstanceId]:
        """What has waited for longer than so many seconds, ascending by slot."""
        late = [place for place, since in self._since.items() if at - since > patience]
        return sorted(late, key=lambda place: (place.slot, place.row))

    def oldest(self, at: float) -> float:
        """How long the one has waited that has waited for longest, in seconds."""
        return at - min(self._since.values(), default=at)

    def draw(self, places: Sequence[InstanceId], rows: int) -> str:
        """These instances, of a log of so many rows, and what they wait for among themselves, as SVG."""
        shown = sorted(places[:_SHOWN])
        records = {place: self._instance(place) for place in shown if place in self._records}
        nodes = [Node(place, self._state(place), self._note(place)) for place in shown]
        edges = {place: reduced(record, records) for place, record in records.items()}
        return draw(make_graph(rows, nodes, records, edges, len(places) - len(shown)), "")

    def _instance(self, place: InstanceId) -> Instance:
        entry = self._records[place]
        instance = Instance(place, tuple(entry["deps"]))
        instance.phase = Phase(entry["phase"])
        return instance

    def _state(self, place: InstanceId) -> str:
        entry = self._records.get(place)
        if entry is None or not entry["known"]:
            return "unknown"
        return _WORDS[Phase(entry["phase"])]

    def _note(self, place: InstanceId) -> str:
        entry = self._records.get(place, {"commands": 0, "ballot": 0})
        return f"{place_name(place)}: {self._state(place)}, {entry['commands']} commands, ballot {entry['ballot']}"
