"""How decisions reach replicas that missed them: beacons and requests (protocol 4.9, timer 3).

Commits are sent once and not acknowledged. A replica that sees in a peer's beacon that the peer has come
further in a row, and that made no progress there since that peer's last beacon, asks for what it misses. While an
answer is outstanding it does not ask again before `retry` is over: after a pause or a cut hundreds of beacons come at
once, and each answer may hold a thousand decisions.
"""

from __future__ import annotations

from typing import Final

from epaxos.protocol.epaxos.messages import Beacon, Commit, CommitRequest, Truncated
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.ids import InstanceId, Row, Slot
from epaxos.protocol.log import NOP, Phase

SLOTS_PER_REQUEST: Final = 1024
"""How many slots one request spans: bounds what an answer can cost the peer in one round."""

BYTES_PER_ANSWER: Final = 4 * 1024 * 1024
"""Where an answer stops; the next request asks for the rest."""


class Dissemination:
    """Asks peers for missing decisions and answers their requests."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: list[Slot] = [-1] * state.n
        self._before: list[list[Slot]] = [[-1] * state.n for _ in range(state.n)]
        self._asked: dict[Row, tuple[Row, Slot]] = {}
        self._ask_again_at = [0.0] * state.n

    def beacon(self) -> Beacon:
        """What this replica tells its peers at intervals."""
        state = self._state
        logs = state.logs
        return Beacon(
            tuple(state.seen),
            tuple(logs.committed),
            state.executor.executed,
            tuple(logs.truncated),
            logs.no_deps,
        )

    def on_beacon(self, sender: Row, message: Beacon) -> None:
        """Compare a peer's progress with the own; ask where the own has stalled behind it."""
        state = self._state
        state.hear_of(message.seen)
        before, self._before[sender] = self._before[sender], list(state.logs.committed)
        for row, theirs in enumerate(message.committed):
            self._known[row] = max(theirs, self._known[row])
            mine = state.logs.committed[row]
            if theirs > mine == before[row] and state.now >= self._ask_again_at[row]:
                self._ask(sender, row)

    def _ask(self, peer: Row, row: Row) -> None:
        state = self._state
        first = state.logs.committed[row] + 1
        last = min(self._known[row], first + SLOTS_PER_REQUEST - 1)
        self._asked[row] = (peer, last)
        self._ask_again_at[row] = state.now + state.settings.retry
        state.send((peer,), CommitRequest(row, first, last))

    def on_progress(self, row: Row) -> None:
        """Ask for the next stretch of a row as soon as the last one asked for has come."""
        asked = self._asked.get(row)
        if asked is None or self._state.logs.committed[row] < asked[1]:
            return
        del self._asked[row]
        self._ask_again_at[row] = 0.0
        if self._known[row] > self._state.logs.committed[row]:
            self._ask(asked[0], row)

    def on_truncated(self, sender: Row, message: Truncated) -> None:
        """A peer has dropped an instance that is not decided here: only its checkpoint can bring it (4.10)."""
        state = self._state
        state.hear_of(message.frontier)
        state.effects.fetch.append(sender)
        state.cover("told of truncation")

    def on_commit_request(self, sender: Row, message: CommitRequest) -> None:
        """Send the decisions asked for, as far as this replica has them and the bound on bytes allows."""
        state = self._state
        if message.first <= state.logs.truncated[message.row]:
            place = InstanceId(message.row, message.first)
            state.send((sender,), Truncated(place, tuple(state.logs.truncated)))
        instances = state.logs.rows[message.row]
        size = 0
        for slot in range(message.first, min(message.last + 1, message.first + SLOTS_PER_REQUEST)):
            instance = instances.get(slot)
            if instance is None or instance.phase is not Phase.COMMITTED or instance.value is None:
                continue
            place = InstanceId(message.row, slot)
            state.promise((sender,), Commit(place, instance.value, instance.deps, instance.seq))
            size += 0 if instance.value is NOP else len(instance.value.encoded)
            if size > BYTES_PER_ANSWER:
                return
