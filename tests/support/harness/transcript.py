"""Plays a scenario: commands, one a line, each followed by what the replicas did because of it.

A scenario is a text file of blocks. A block is a command, a line of four dashes, and what came of it; an empty line
ends it. Lines that begin with # are prose. Messages stay under way until a command delivers or drops
them, and time passes only when a command says so. Every replica persists at once and hands its own
votes back to itself; these are not shown.

    cluster N [thrifty] [f=F] [e=E]      replicas 0 to N-1
    propose ROW (put|get) KEY...         the commands are called a, b, c, … in this order
    deliver FILTER...                    what is under way now and passes, in the order in which it was sent
    drop FILTER...                       lose it
    repeat FILTER...                     deliver it and leave it under way
    settle                               deliver until nothing is under way
    wait SECONDS                         time passes at every replica
    beacon ROW                           it tells its peers how far it is
    offline ROW PEER / online ROW PEER   what its failure detector says
    log ROW                              what it holds
    executed                             the order of execution at every replica

A filter is `all`, a sender and receiver (0>1, 0>, >1), a message's name, or an instance (0.3); a message has to pass
all filters of the line. Vectors are written [3 - 0], with - where there is no slot; _ is a payload left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final, NamedTuple, cast

from epaxos.protocol.contract import Effects, Event, PeerStatus, Propose, Receive, Tick
from epaxos.protocol.epaxos import EPaxos
from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.log import NOP, Instance, Proposal
from epaxos.protocol.messages import Message
from epaxos.protocol.quorums import make_quorums
from epaxos.protocol.state import Settings
from harness.commands import Access, get, put
from harness.driver import Driver, Outgoing

SEPARATOR: Final = "----"
_VECTORS: Final = frozenset({"deps", "seen", "committed", "executed", "truncated", "frontier"})


class UnderWay(NamedTuple):
    """A message between two replicas."""

    sender: Row
    receiver: Row
    message: Message


class Transcript:
    """The replicas of one scenario."""

    def __init__(self) -> None:
        self._drivers: list[Driver] = []
        self._under_way: list[UnderWay] = []
        self._names = 0
        self._now = 0.0
        self._lines: list[str] = []
        self._commands: dict[str, Callable[[Sequence[str]], None]] = {
            "cluster": self._cluster,
            "propose": self._propose,
            "deliver": self._deliver,
            "drop": self._drop,
            "repeat": self._repeat,
            "settle": self._settle,
            "wait": self._wait,
            "beacon": self._beacon,
            "offline": self._offline,
            "online": self._online,
            "log": self._log,
            "executed": self._executed,
        }

    def do(self, command: str) -> list[str]:
        """Carry out a command; return the lines that tell what came of it."""
        self._lines = []
        name, *words = command.split()
        self._commands[name](words)
        return self._lines or ["nothing"]

    # -- commands ------------------------------------------------------------------------------------------

    def _cluster(self, words: Sequence[str]) -> None:
        assert not self._drivers, "one cluster a scenario"
        n, *options = words
        named = dict(option.split("=") for option in options if "=" in option)
        quorums = make_quorums(int(n), **{name: int(value) for name, value in named.items()})
        for row in range(quorums.n):
            settings = Settings(row=row, quorums=quorums, thrifty="thrifty" in options)
            self._drivers.append(Driver(EPaxos(settings, Random(row)), self._observe))
        self._say(f"slow quorum {quorums.slow}, fast quorum {quorums.fast}")

    def _propose(self, words: Sequence[str]) -> None:
        row, kind, *keys = words
        make = {"put": put, "get": get}[kind]
        self._give(int(row), Propose(make(self._names, *(key.encode() for key in keys))))
        self._names += 1

    def _deliver(self, words: Sequence[str]) -> None:
        for arriving in self._take(words):
            self._arrive(arriving)

    def _drop(self, words: Sequence[str]) -> None:
        for lost in self._take(words):
            self._say(f"{lost.sender} -> {lost.receiver}  {_text(lost.message)} is lost")

    def _repeat(self, words: Sequence[str]) -> None:
        copies = self._take(words)
        self._under_way = copies + self._under_way
        for arriving in copies:
            self._arrive(arriving)

    def _settle(self, _: Sequence[str]) -> None:
        while self._under_way:
            self._deliver(["all"])

    def _wait(self, words: Sequence[str]) -> None:
        (seconds,) = words
        end = self._now + float(seconds)
        while (deadline := min(driver.core.deadline for driver in self._drivers)) <= end:
            self._now = max(deadline, self._now)
            for driver in self._drivers:
                if driver.core.deadline <= self._now:
                    self._give(driver.row, Tick())
        self._now = end

    def _beacon(self, words: Sequence[str]) -> None:
        driver = self._drivers[int(words[0])]
        beacon = driver.core.beacon()
        self._send(driver.row, [Outgoing(peer, beacon, deferrable=False) for peer in driver.core.state.peers])

    def _offline(self, words: Sequence[str]) -> None:
        row, peer = map(int, words)
        self._give(row, PeerStatus(peer, online=False))

    def _online(self, words: Sequence[str]) -> None:
        row, peer = map(int, words)
        self._give(row, PeerStatus(peer, online=True))

    def _log(self, words: Sequence[str]) -> None:
        for instances in self._drivers[int(words[0])].core.state.logs.rows:
            for _, instance in sorted(instances.items()):
                self._say(_record(instance))

    def _executed(self, _: Sequence[str]) -> None:
        for driver in self._drivers:
            order = " ".join(
                "{" + " ".join(map(str, places)) + "}" if len(places) > 1 else str(places[0])
                for places in ([decided.id for decided in component] for component in driver.components)
            )
            self._say(f"{driver.row}: {order or 'nothing'}")

    # -- what happens --------------------------------------------------------------------------------------

    def _take(self, filters: Sequence[str]) -> list[UnderWay]:
        """Remove and return what is under way and passes all filters; there must be something."""
        taken = [message for message in self._under_way if _passes(message, filters)]
        assert taken, f"nothing passes {' '.join(filters)}; under way: {self._under_way}"
        self._under_way = [message for message in self._under_way if not _passes(message, filters)]
        return taken

    def _arrive(self, arriving: UnderWay) -> None:
        self._say(f"{arriving.receiver} <- {arriving.sender}  {_text(arriving.message)}")
        self._give(arriving.receiver, Receive(arriving.sender, arriving.message))

    def _give(self, row: Row, event: Event[Message]) -> None:
        self._send(row, self._drivers[row].take_round([event], self._now))

    def _send(self, sender: Row, leaving: Sequence[Outgoing]) -> None:
        receivers: dict[str, list[str]] = {}
        for outgoing in leaving:
            self._under_way.append(UnderWay(sender, outgoing.receiver, outgoing.message))
            receivers.setdefault(_text(outgoing.message), []).append(str(outgoing.receiver))
        for text, rows in receivers.items():
            self._say(f"{sender} -> {' '.join(rows)}  {text}")

    def _observe(self, row: Row, _: Event[Message], effects: Effects[Message]) -> None:
        for instance in effects.records:
            self._say(f"{row}    records {_record(instance)}")
        for note in effects.commits:
            self._say(f"{row}    has decided {note.id}, {note.path}")
        for component in effects.executions:
            self._say(f"{row}    executes {' then '.join(str(decided.id) for decided in component)}")

    def _say(self, line: str) -> None:
        self._lines.append(line)


def _passes(under_way: UnderWay, filters: Sequence[str]) -> bool:
    return all(_passes_one(under_way, each) for each in filters)


def _passes_one(under_way: UnderWay, wanted: str) -> bool:
    if wanted == "all":
        return True
    if ">" in wanted:
        sender, receiver = wanted.split(">")
        return sender in {"", str(under_way.sender)} and receiver in {"", str(under_way.receiver)}
    if "." in wanted:
        return wanted == str(getattr(under_way.message, "id", None))
    return wanted == type(under_way.message).__name__


def _text(message: Message) -> str:
    """A message as a person writes it."""
    fields = (_field(name, getattr(message, name)) for name in message._fields if name != "floor")
    return f"{type(message).__name__} {' '.join(fields)}"


def _field(name: str, value: object) -> str:
    if isinstance(value, InstanceId):
        return str(value)
    if name in {"value", "command"}:
        return _value(value)
    if name == "against":
        found = cast("tuple[tuple[InstanceId, object], ...]", value)
        return f"against={{{', '.join(f'{place} {phase!s}' for place, phase in found)}}}"
    if isinstance(value, Proposal):
        return f"init={_value(value.command)}{_vector(value.deps)}"
    if name in _VECTORS:
        return f"{name}={_vector(cast('Sequence[int]', value))}"
    return f"{name}={getattr(value, 'name', value)}"


def _vector(slots: Sequence[int]) -> str:
    return "[" + " ".join("-" if slot < 0 else str(slot) for slot in slots) + "]"


def _value(value: object) -> str:
    if value is NOP:
        return "no-op"
    if isinstance(value, Access):
        return chr(ord("a") + value.name)
    assert value is None
    return "_"


def _record(instance: Instance) -> str:
    ballots = f" bal={instance.bal} abal={instance.abal}" if instance.bal else ""
    return (
        f"{instance.id} {instance.phase.name}{ballots} {_value(instance.value)} "
        f"deps={_vector(instance.deps)} seq={instance.seq}"
    )


def play(text: str) -> str:
    """The scenario as it goes now: the same prose and commands, with what comes of them."""
    transcript = Transcript()
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        prose = [line for line in lines if line.startswith("#")]
        commands = [line for line in lines[: _end_of_commands(lines)] if line and not line.startswith("#")]
        if commands:
            (command,) = commands
            block = "\n".join([*prose, command, SEPARATOR, *transcript.do(command)])  # noqa: PLW2901 - replayed
        blocks.append(block)
    return "\n\n".join(blocks) + "\n"


def _end_of_commands(lines: Sequence[str]) -> int:
    return lines.index(SEPARATOR) if SEPARATOR in lines else len(lines)
