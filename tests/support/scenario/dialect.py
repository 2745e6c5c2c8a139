"""What a script's cluster has to know of the protocol that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, Final, NamedTuple, Protocol

from epaxos.protocol.contract import Durable, Effects, Event
from epaxos.protocol.epaxos import messages as epaxos
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.log import Instance, Phase
from epaxos.protocol.multipaxos import messages as multipaxos
from epaxos.protocol.multipaxos.core import MultiPaxos
from epaxos.protocol.multipaxos.state import LOG, ROWS, VIEW, Learn
from epaxos.protocol.multipaxos.state import Settings as LedSettings
from epaxos.protocol.quorums import Quorums
from harness.invariants import Record, Watch, check_promise
from scenario.wording import LedWording, Wording

Disk = Mapping[InstanceId, Record]


class Watching(Protocol):
    """Looks at a core after each event."""

    def after(self, event: Event[Any], effects: Effects[Any]) -> None: ...


class Dialect(NamedTuple):
    """One protocol.

    kinds          its messages
    settings       of a core, from its row, the quorums and the words of the command `cluster`
    make           a core that begins with records
    watch          what looks at it, beginning with a disk
    check_promise  fails if what a message promises is not on the disk of its sender
    take_over      let a core recover an instance, or campaign
    answers        whether the client of a command that executes at a place is at a replica
    """

    kinds: frozenset[str]
    wording: Callable[[list[str]], Wording]
    settings: Callable[[Row, Quorums, Mapping[str, str]], Any]
    make: Callable[[Any, Random, Iterable[Instance]], Any]
    watch: Callable[[Any, Disk], Watching]
    check_promise: Callable[[Any, Disk], None]
    take_over: Callable[[Any, InstanceId | None, float], Effects[Any]]
    answers: Callable[[InstanceId, Row], bool]


def _kinds(module: Any) -> frozenset[str]:
    return frozenset(kind.__name__ for kind in module.Message.__args__)


def _make_epaxos(settings: Settings, random: Random, records: Iterable[Instance]) -> EPaxos:
    nothing = (-1,) * settings.quorums.n
    return EPaxos(settings, random, Durable(records, nothing, nothing, ()))


def _watch_epaxos(core: EPaxos, disk: Disk) -> Watch:
    watch = Watch(core)
    watch._before.update(disk)
    for place, record in disk.items():
        if record.phase is Phase.PREACCEPTED:
            watch._answers[place] = epaxos.PreAcceptOK(place, record.deps, record.seq)
    return watch


def _recover(core: EPaxos, place: InstanceId | None, now: float) -> Effects[epaxos.Message]:
    assert place is not None
    core.state.begin(now)
    core._recovery.start(place)
    return core.state.effects


EPAXOS: Final = Dialect(
    _kinds(epaxos),
    Wording,
    lambda row, quorums, words: Settings(row, quorums, thrifty="thrifty" in words),
    _make_epaxos,
    _watch_epaxos,
    check_promise,
    _recover,
    lambda place, row: place.row == row,
)


class _Unwatched:
    """Promises are looked at where they leave, and decisions across replicas."""

    def after(self, event: Event[Any], effects: Effects[Any]) -> None: ...


def _make_led(settings: LedSettings, random: Random, records: Iterable[Instance]) -> MultiPaxos:
    nothing = (-1,) * ROWS
    return MultiPaxos(settings, random, Durable(records, nothing, nothing, ()))


def _check_led(message: multipaxos.Message, disk: Disk) -> None:
    if isinstance(message, multipaxos.Prepare | multipaxos.Promised | multipaxos.Voted):
        assert disk[VIEW].bal >= message.ballot, f"{message} without a promise"
    elif isinstance(message, multipaxos.AcceptOK):
        assert disk[InstanceId(LOG, message.slot)].abal >= message.ballot, f"{message} without a vote"


def _campaign(core: MultiPaxos, place: InstanceId | None, now: float) -> Effects[multipaxos.Message]:
    assert place is None
    core.state.begin(now)
    core._election._start()
    return core._end()


MULTIPAXOS: Final = Dialect(
    _kinds(multipaxos),
    LedWording,
    lambda row, quorums, words: LedSettings(row, quorums, Learn(words.get("learn", "votes"))),
    _make_led,
    lambda *_: _Unwatched(),
    _check_led,
    _campaign,
    lambda *_: True,
)

DIALECTS: Final[dict[str, Dialect]] = {"epaxos": EPAXOS, "multipaxos": MULTIPAXOS}
