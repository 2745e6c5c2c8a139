"""How decisions reach replicas that missed them: beacons and requests (protocol 4.9, timer 3).

Commits are sent once and not acknowledged. A replica that sees in a peer's beacon that the peer has come
further in a row, and that made no progress there since that peer's last beacon, asks for what it misses. One that has
no vote is sent nothing else, and asks at once.

Who has dropped what is missing is not asked for it as long as another peer that is heard has it: the answer would be
that only a checkpoint brings it. After one that was fetched, its peer alone keeps what has followed (4.10); under load
others have dropped that by then, and each of their checkpoints would be fetched only to be behind again.

A peer has one question to answer at a time, and no row is asked of two peers. Each answer may hold megabytes: asked for
again while it is on its way, it would come several times and delay everything else on a slow link. A question is over
when the last decision asked for has come, or as many bytes as an answer holds, or the echo of a beacon that was
sent after it: where links keep the order, the answer, or what there is of it, has come by then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from epaxos.protocol.epaxos.messages import Beacon, Commit, CommitRequest, Echo, Truncated
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.ids import InstanceId, Row, Slot, Vector
from epaxos.protocol.log import NOP, Phase, Value
from epaxos.protocol.roundtrips import stamp_of, time_of

SLOTS_PER_REQUEST: Final = 1024
"""How many slots one request spans: bounds what an answer can cost the peer in one round."""

BYTES_PER_ANSWER: Final = 4 * 1024 * 1024
"""Where an answer stops; the next request asks for the rest."""


@dataclass(slots=True)
class Question:
    """What a peer was asked for: slots of a row; `stamp` tells when, and `size` how many bytes of payload have come."""

    row: Row
    first: Slot
    last: Slot
    stamp: int
    size: int = 0


class Dissemination:
    """Asks peers for missing decisions, answers their requests, and measures round trips by beacons.

    Of each peer: `_before` is how far this replica had committed at its last beacon, `_stalled` the rows to ask it for,
    `_dropped` up to where it has dropped them, `_asked` the question that it has to answer, `_echoed` the stamp that
    it has sent back last.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._before: list[list[Slot]] = [[-1] * state.n for _ in range(state.n)]
        self._stalled: list[list[Row]] = [[] for _ in range(state.n)]
        self._dropped: list[Vector] = [(-1,) * state.n for _ in range(state.n)]
        self._asked: dict[Row, Question] = {}
        self._echoed: list[int] | None = None

    def beacon(self, now: float) -> Beacon:
        """What this replica tells its peers at intervals; of a floor once nobody has to wait for what is below it."""
        state = self._state
        logs = state.logs
        stamp = stamp_of(now)
        if self._echoed is None:
            self._echoed = [stamp - 1] * state.n
        return Beacon(
            tuple(state.seen),
            tuple(logs.committed),
            state.executor.executed,
            tuple(logs.truncated),
            tuple(map(_if_reached, state.floors, logs.committed)),
            stamp,
        )

    def on_beacon(self, sender: Row, message: Beacon) -> None:
        """Compare a peer's progress with the own; ask where the own has stalled behind it."""
        state = self._state
        state.hear_of(message.seen)
        state.cover_floors(message.floor)
        state.send((sender,), Echo(message.stamp))
        mine = state.logs.committed
        before, self._before[sender] = self._before[sender], list(mine)
        told = state.told[sender] = tuple(map(max, message.committed, state.told[sender]))
        self._dropped[sender] = message.truncated
        self._stalled[sender] = [
            row
            for row in range(state.n)
            if told[row] > mine[row] and (mine[row] == before[row] or not state.votes)
        ]
        self._ask(sender, self._stalled[sender])

    def on_echo(self, sender: Row, message: Echo) -> None:
        """Note how long a beacon took there and back; see whether an answer must have come before it.

        A stamp of before the restart tells nothing, nor does a second echo or one that others have overtaken. Nor is
        anything measured while the peer is away: one that was stopped echoes all beacons of that time when it goes on.
        """
        state = self._state
        if self._echoed is None or not self._echoed[sender] < message.stamp <= stamp_of(state.now):
            return
        self._echoed[sender] = message.stamp
        if sender in state.online:
            state.measured(sender, state.now - time_of(message.stamp))
        question = self._asked.get(sender)
        if question is not None and message.stamp > question.stamp:
            self._end(sender, question)

    def on_status(self, peer: Row) -> None:
        """A peer has gone or come back: what it was asked is lost, and old beacons that come late tell nothing."""
        self._asked.pop(peer, None)
        if self._echoed is not None:
            self._echoed[peer] = stamp_of(self._state.now)

    def on_payload_missing(self, sender: Row, place: InstanceId) -> None:
        """A peer has told of a decision whose payload is not here; its beacons tell of it too, if it is busy."""
        if sender not in self._asked:
            self._send(sender, place.row, place.slot, place.slot)

    def on_decision(self, sender: Row, message: Commit) -> None:
        """A decision has come; see which questions that answers to the end."""
        if not self._asked:
            return
        row, slot = message.id
        committed = self._state.logs.committed[row]
        for peer, question in list(self._asked.items()):
            if question.row != row:
                continue
            if peer == sender:
                question.size += _size(message.value)
                if slot == question.last or question.size > BYTES_PER_ANSWER:
                    self._end(peer, question)
            elif committed >= question.last:
                self._end(peer, question)

    def _end(self, peer: Row, question: Question) -> None:
        """Ask for the next stretch of the row if some of this one has come, or for another row.

        The rows have turns: one of which nothing comes, since the peer has dropped it, must not keep others waiting.
        """
        del self._asked[peer]
        row = question.row
        has_come = self._state.logs.committed[row] >= question.first
        in_turn = sorted(self._stalled[peer], key=lambda other: (other <= row, other))
        self._ask(peer, [*([row] if has_come else []), *in_turn])

    def _ask(self, peer: Row, rows: Iterable[Row]) -> None:
        """Ask a peer for the first of some rows in which it is ahead and that nobody is asked for who is there."""
        if peer in self._asked:
            return
        asked = {question.row for other, question in self._asked.items() if other in self._state.online}
        for row in rows:
            first, last = self._state.logs.committed[row] + 1, self._state.told[peer][row]
            if row not in asked and first <= last and not self._is_better_asked_elsewhere(peer, row, first):
                self._send(peer, row, first, min(last, first + SLOTS_PER_REQUEST - 1))
                return

    def _is_better_asked_elsewhere(self, peer: Row, row: Row, slot: Slot) -> bool:
        """Whether a peer has dropped this slot, and another one that is heard has it."""
        told, dropped = self._state.told, self._dropped
        return dropped[peer][row] >= slot and any(
            dropped[other][row] < slot <= told[other][row] for other in self._state.online
        )

    def _send(self, peer: Row, row: Row, first: Slot, last: Slot) -> None:
        self._asked[peer] = Question(row, first, last, stamp_of(self._state.now))
        self._state.send((peer,), CommitRequest(row, first, last))

    def on_truncated(self, sender: Row, message: Truncated) -> None:
        """A peer has dropped an instance that is not decided here: only its checkpoint can bring it (4.10)."""
        state = self._state
        state.hear_of(message.frontier)
        state.effects.fetch.append(sender)
        state.cover("told of truncation")

    def on_commit_request(self, sender: Row, message: CommitRequest) -> None:
        """Send the decisions asked for, as far as this replica has them and the bound on bytes allows.

        None if some are dropped here: what follows is of use only after the checkpoint, and would be asked for again.
        """
        state = self._state
        if message.first <= state.logs.truncated[message.row]:
            place = InstanceId(message.row, message.first)
            state.send((sender,), Truncated(place, tuple(state.logs.truncated)))
            return
        instances = state.logs.rows[message.row]
        size = 0
        for slot in range(message.first, min(message.last + 1, message.first + SLOTS_PER_REQUEST)):
            instance = instances.get(slot)
            if instance is None or instance.phase is not Phase.COMMITTED or instance.value is None:
                continue
            place = InstanceId(message.row, slot)
            state.promise((sender,), Commit(place, instance.value, instance.deps, instance.seq))
            size += _size(instance.value)
            if size > BYTES_PER_ANSWER:
                return


def _if_reached(floor: Slot, committed: Slot) -> Slot:
    return floor if floor <= committed else -1


def _size(value: Value | None) -> int:
    return 0 if value is None or value is NOP else value.size
