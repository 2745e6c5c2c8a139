"""Commands of clients here: proposed where this replica leads, else on their way to the leader (multipaxos 4).

A command stays until it has executed here, whoever proposed it. If it takes long it is sent again, to whoever leads
then: it may be chosen twice, and the sessions see to it that it executes once. Who does not hear the leader sends it
through a peer that is happy, another one each time; a command is passed on once, so that none goes round for ever.
"""

from __future__ import annotations

import math
from typing import Final

from epaxos.errors import InvariantError
from epaxos.protocol.command import Command
from epaxos.protocol.contract import CommitNote
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot
from epaxos.protocol.log import NOP, Value
from epaxos.protocol.multipaxos.election import Election
from epaxos.protocol.multipaxos.leading import Leading
from epaxos.protocol.multipaxos.messages import NOBODY, Forward
from epaxos.protocol.multipaxos.state import LOG, State

_ELECTION: Final = 3
"""Units of patience in which somebody else leads, as a rule, when a leader is gone."""

_NOBODY_ASKED: Final[tuple[Row, float]] = (-1, -math.inf)


class Waiting:
    """A command that clients here wait for.

    `count` is how often it was asked for: that many times it has to execute. `asked` is whom it was sent to last and
    when, `due` when it is sent again.
    """

    __slots__ = ("asked", "command", "count", "due", "interval", "led", "started", "tries")

    def __init__(self, command: Command, now: float, interval: float) -> None:
        self.command = command
        self.count = 0
        self.started = now
        self.interval = interval
        self.due = math.inf
        self.asked = _NOBODY_ASKED
        self.tries = 0
        self.led = False


class Forwarding:
    """The commands of clients at the replica that owns `state`, by their bytes."""

    def __init__(self, state: State, leading: Leading, election: Election) -> None:
        self._state = state
        self._leading = leading
        self._election = election
        self.waiting: dict[bytes, Waiting] = {}
        self.in_flight = 0
        self._way: tuple[Ballot, bool, bool] = (NOBODY, False, False)
        self._lost_since: float | None = None
        self._turn = 0

    def propose(self, command: Command) -> None:
        """Order a command of a client here."""
        if command.base is not None and command.base[LOG] > max(self._state.seen, self._state.executed):
            raise InvariantError(f"base {command.base} of what is proposed is above all that was heard of")
        waiting = self.waiting.get(command.encoded)
        if waiting is None:
            waiting = Waiting(command, self._state.now, self._state.settings.retry)
            self.waiting[command.encoded] = waiting
        waiting.count += 1
        self.in_flight += 1
        self._send(waiting)

    def _send(self, waiting: Waiting) -> None:
        state = self._state
        waiting.led = self._leading.reign is not None
        if waiting.led:
            self._leading.propose(waiting.command, "")
        else:
            receiver = self._receiver(self._turn + waiting.tries)
            if receiver is not None and (
                receiver != waiting.asked[0] or state.may_ask(receiver, waiting.asked[1])
            ):
                if waiting.tries:
                    state.cover("forwarded again")
                waiting.asked = receiver, state.now
                waiting.tries += 1
                state.send((receiver,), Forward(waiting.command, 0))
        waiting.due = state.now + waiting.interval * (0.75 + state.random.random() / 2)
        waiting.interval = min(2 * waiting.interval, state.settings.retry_limit)

    def _receiver(self, tries: int) -> Row | None:
        """The leader, or one of those who hear it."""
        leader = self._election.leader
        if leader in self._state.online:
            return leader
        ways = self._ways()
        return ways[tries % len(ways)] if ways else None

    def _ways(self) -> list[Row]:
        """The peers that hear a leader."""
        state, told = self._state, self._election.told
        return [peer for peer in state.peers if peer in state.online and peer in told and told[peer].follows]

    def on_forward(self, message: Forward) -> None:
        """Propose what somebody else's client wants, or pass it on to the leader, once."""
        state = self._state
        if self._leading.reign is not None:
            self._leading.propose(message.command, "")
        elif not message.relayed and (leader := self._election.leader) in state.online:
            assert leader is not None
            state.cover("command passed on")
            state.send((leader,), message._replace(relayed=1))

    def on_executed(self, slot: Slot, value: Value) -> None:
        """A command has executed here: whoever waits for it is answered."""
        if value is NOP or not self.waiting:
            return
        waiting = self.waiting.get(value.encoded)
        if waiting is None:
            return
        self.in_flight -= 1
        waiting.count -= 1
        path = "led" if waiting.led else "forwarded"
        seconds = self._state.now - waiting.started
        self._state.effects.commits.append(CommitNote(InstanceId(LOG, slot), path, seconds))
        if not waiting.count:
            del self.waiting[value.encoded]

    def sweep(self) -> None:
        """Send again what has waited for long, and see whether anything gets anywhere."""
        if self._election.is_led:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = self._state.now
        for waiting in self.waiting.values():
            if self._state.now >= waiting.due:
                self._send(waiting)

    def follow(self) -> None:
        """Send all again at once if another ballot is led by now, or its leader can be reached by now.

        It matters not whether the same replica leads it: what had come while it did not lead was dropped there.
        """
        leader = self._election.leader
        direct = leader == self._state.me or leader in self._state.online
        way = self._election.led, direct, direct or bool(self._ways())
        if way == self._way:
            return
        self._way = way
        for waiting in self.waiting.values():
            waiting.interval = self._state.settings.retry
            waiting.asked = _NOBODY_ASKED
            self._send(waiting)

    @property
    def lost(self) -> bool:
        """Whether no leader of a quorum has been within reach for longer than it takes to elect one."""
        state = self._state
        return self._lost_since is not None and state.now > self._lost_since + _ELECTION * state.unit

    def left(self) -> list[Command]:
        """What has not executed, without collections."""
        return [
            waiting.command
            for waiting in self.waiting.values()
            if waiting.command.base is None
            for _ in range(waiting.count)
        ]

    def keep(self, command: Command) -> None:
        """Take a command that comes too late for this epoch."""
        waiting = self.waiting.setdefault(command.encoded, Waiting(command, self._state.now, 0.0))
        waiting.count += 1

    def overtaken(self) -> list[Command]:
        """Wait no more for what there is, and say what: a checkpoint may have overtaken it on its way.

        What of it comes again is sent another way, since that one may lead nowhere.
        """
        commands = [waiting.command for waiting in self.waiting.values() for _ in range(waiting.count)]
        self.waiting.clear()
        self.in_flight = 0
        self._turn += 1
        return commands
