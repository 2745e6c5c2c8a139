"""Messages, records and decisions as a person reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from epaxos.protocol.contract import Component
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Beacon,
    Commit,
    CommitRequest,
    Echo,
    Message,
    Missing,
    Nack,
    Offer,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
    Validate,
    ValidateOK,
    Waiting,
)
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import NOP, Phase, Proposal, Value
from epaxos.protocol.multipaxos import messages as led
from epaxos.protocol.multipaxos.state import LOG, VIEW
from epaxos.protocol.quorums import Quorums
from harness.commands import Access
from harness.invariants import Record

PHASES = {
    Phase.INITIAL: "initial",
    Phase.PREACCEPTED: "pre-accepted",
    Phase.ACCEPTED: "accepted",
    Phase.COMMITTED: "committed",
}


def replica_name(row: Row) -> str:
    """Replicas are A, B, C and so on, in the order of their rows."""
    return chr(ord("A") + row)


def replica_names(rows: Iterable[Row]) -> str:
    return ", ".join(replica_name(row) for row in rows)


def place_name(place: InstanceId) -> str:
    return f"{replica_name(place.row)}.{place.slot}"


def deps_text(deps: Vector) -> str:
    """The highest slot of every row that is covered at all; it stands for all below it too."""
    covered = (place_name(InstanceId(row, slot)) for row, slot in enumerate(deps) if slot >= 0)
    return f"{{{' '.join(covered)}}}"


class Wording:
    """Texts for one cluster; `names` are those of its commands, by the number in `Access.name`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def quorums(self, quorums: Quorums) -> str:
        return f"f={quorums.f} e={quorums.e} slow quorum {quorums.slow}, fast quorum {quorums.fast}"

    def place(self, place: InstanceId) -> str:
        return place_name(place)

    def place_of(self, message: Any) -> InstanceId | None:
        """What a message is about."""
        return getattr(message, "id", None)

    def value(self, value: Value | None) -> str:
        if value is None:
            return "nothing"
        if value is NOP:
            return "no-op"
        assert isinstance(value, Access)
        return self._names[value.name]

    def triple(self, value: Value | None, deps: Vector, seq: int) -> str:
        """What is decided of an instance."""
        return self.value(value) if value is NOP else f"{self.value(value)} deps={deps_text(deps)} seq={seq}"

    def record(self, place: InstanceId, record: Record) -> str:
        text = f"{self.place(place)} {PHASES[record.phase]}"
        if record.phase is not Phase.INITIAL:
            text += f" {self.triple(record.value, record.deps, record.seq)}"
        elif record.orig is not None:
            text += f", payload {self.value(record.orig)} known"
        if record.phase is Phase.COMMITTED:
            return text
        return text + (f" bal={record.bal} abal={record.abal}" if record.bal else "")

    def component(self, component: Component) -> str:
        members = ", ".join(f"{self.place(member.id)} {self.value(member.value)}" for member in component)
        return members if len(component) == 1 else f"one component: {members}"

    def message(self, message: Any) -> str:
        """A message in one line, without its sender."""
        kind = type(message).__name__
        if isinstance(message, CommitRequest):
            first = place_name(InstanceId(message.row, message.first))
            return f"{kind} {first} to {place_name(InstanceId(message.row, message.last))}"
        if isinstance(message, Beacon):
            return f"{kind} seen={deps_text(message.seen)} committed={deps_text(message.committed)}"
        if isinstance(message, Echo):
            return kind
        text = f"{kind} {place_name(message.id)}"
        if isinstance(message, PreAccept):
            return f"{text} {self.triple(message.command, message.deps, message.seq)}"
        if isinstance(message, PreAcceptOK):
            return f"{text} deps={deps_text(message.deps)} seq={message.seq}"
        if isinstance(message, Accept):
            return f"{text} b={message.ballot} {self._sent(message)}"
        if isinstance(message, Commit):
            return f"{text} {self._sent(message)}"
        return text + self._recovery(message)

    def _sent(self, message: Accept | Commit) -> str:
        """A value, or that the receiver was sent it with the PreAccept."""
        if message.value is None:
            return f"(same payload) deps={deps_text(message.deps)} seq={message.seq}"
        return self.triple(message.value, message.deps, message.seq)

    def _recovery(self, message: Message) -> str:
        if isinstance(message, AcceptOK | Recover | Nack):
            return f" b={message.ballot}"
        if isinstance(message, RecoverOK):
            return f" b={message.ballot}: {self._held(message)}"
        if isinstance(message, Validate):
            return f" b={message.ballot} {self.triple(message.command, message.deps, message.seq)}"
        if isinstance(message, ValidateOK):
            found = ", ".join(f"{place_name(place)} {PHASES[phase]}" for place, phase in message.against)
            return f" b={message.ballot}: against it {found or 'nothing'}"
        if isinstance(message, Waiting):
            return f" k={message.k}"
        return "" if isinstance(message, Offer | Missing) else f" {message}"

    def _held(self, answer: RecoverOK) -> str:
        held = PHASES[answer.phase]
        if answer.phase is Phase.INITIAL:
            return held
        text = f"{held} {self.triple(answer.value, answer.deps, answer.seq)}"
        if answer.phase is Phase.PREACCEPTED:
            return f"{text}, {_change(answer.deps, answer.init)}"
        return f"{text} abal={answer.abal}"


def _change(deps: Vector, init: Proposal | None) -> str:
    assert init is not None
    return "unchanged" if deps == init.deps else f"changed from {deps_text(init.deps)}"


class LedWording(Wording):
    """Texts for a cluster with a leader: a slot is its number, and the VIEW what the replica promises and knows."""

    def quorums(self, quorums: Quorums) -> str:
        return f"f={quorums.f} quorum {quorums.slow}"

    def place(self, place: InstanceId) -> str:
        return str(place.slot)

    def place_of(self, message: Any) -> InstanceId | None:
        slot = getattr(message, "slot", None)
        return None if slot is None else InstanceId(LOG, slot)

    def triple(self, value: Value | None, deps: Vector, seq: int) -> str:
        del deps, seq  # each slot follows the one before
        return self.value(value)

    def record(self, place: InstanceId, record: Record) -> str:
        if place == VIEW:
            known = record.deps[LOG]
            return f"its promise of {record.bal}" + (
                f", and that all up to {known} is decided" if known >= 0 else ""
            )
        if record.phase is Phase.COMMITTED:
            return f"{place.slot} decided {self.value(record.value)}"
        return f"{place.slot} a vote for {self.value(record.value)} at {record.abal}"

    def message(self, message: Any) -> str:
        kind = type(message).__name__
        if isinstance(message, led.Beacon):
            who = f"leads {message.leads}" if message.leads else f"follows {message.follows or 'nobody'}"
            happy = "happy" if message.happy else "not happy"
            return f"{kind} {who}, {happy}, knows of {message.known}, decided up to {message.committed[LOG]}"
        if isinstance(message, led.Echo):
            return kind
        if isinstance(message, led.Promised):
            votes = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in message.slots)
            return f"{kind} {message.ballot}, votes in {votes or 'no slot'}"
        if isinstance(message, led.Voted):
            vote = "decided" if message.abal == led.DECIDED else f"voted at {message.abal}"
            return f"{kind} {message.ballot}: {message.slot} {self.value(message.value)}, {vote}"
        return " ".join((kind, *self._fields(message)))

    def _fields(self, message: Any) -> list[str]:
        texts: dict[str, Callable[[Any], str]] = {
            "ballot": "b={}".format,
            "slot": "{}".format,
            "first": "from {}".format,
            "last": "to {}".format,
            "chosen": lambda slot: f"chosen up to {slot}" if slot >= 0 else "",
            "value": lambda value: "(same value)" if value is None else self.value(value),
            "command": self.value,
            "relayed": lambda relayed: "passed on" if relayed else "",
            "frontier": "up to {}".format,
        }
        told = (texts[name](value) for name, value in message._asdict().items())
        return [text for text in told if text]
