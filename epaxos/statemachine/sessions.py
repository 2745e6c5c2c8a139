"""The sessions of all clients: who has one, when it ends, and what a checkpoint takes of them.

**Sessions end** (protocol 4.13). `generation` counts the collections that have executed, which conflict with every
command: so how many had executed before a command is the same on every replica. A session that has executed nothing
during the last `window` of them is dropped. Each batch tells the generation in which its client began the session;
where the session is unknown, and was begun so long ago that it may have been dropped, the batch changes nothing and
ends as EXPIRED. So a retry that comes too late never executes a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from epaxos.errors import FrameError, InvariantError
from epaxos.statemachine import intervals
from epaxos.statemachine.session import Session, load_row

if TYPE_CHECKING:
    from epaxos.statemachine.batch import Heads

WINDOW: Final = 10
"""The collections during which a session may be idle; the same on every replica of a cluster."""


class Budget(NamedTuple):
    """Bytes of results that may be kept: of one session (its newest always is), and of all together."""

    session: int = 32 * 1024 * 1024
    total: int = 256 * 1024 * 1024


_DEFAULT_BUDGET: Final = Budget()


class Sessions:
    """The sessions of all clients, of which one that is idle for more than `window` generations ends.

    `freeze` sets aside which sessions changed since the last call, for a checkpoint that takes them step by step. One
    that changes again before it was taken is encoded first: the checkpoint gets it as it was (`_captured`).

    `weight` is what the kept results of all take, in bytes. `_levels` has the clients with any, by the number of binary
    digits of their session's, so that who keeps most, to a factor of two, is found at once and gives up first.
    """

    __slots__ = (
        "_captured",
        "_changed",
        "_frozen",
        "_frozen_all",
        "_levels",
        "_table",
        "budget",
        "generation",
        "weight",
        "window",
    )

    def __init__(self, budget: Budget = _DEFAULT_BUDGET, window: int = WINDOW) -> None:
        self.budget = budget
        self.window = window
        self.generation = 0
        self.weight = 0
        self._levels: dict[int, dict[int, None]] = {}
        self._table: dict[int, Session] = {}
        self._changed: set[int] = set()
        self._frozen_all: frozenset[int] = frozenset()
        self._frozen: set[int] = set()
        self._captured: list[list[object]] = []

    def __len__(self) -> int:
        return len(self._table)

    def is_over(self, client: int, generation: int) -> bool:
        """Whether the session that a client began in `generation` has ended here, and so everywhere one day."""
        return generation < self.generation - self.window and client not in self._table

    def admit(self, client: int, generation: int) -> Session | None:
        """The session of a client, to execute a batch that names this generation; None if it may have ended.

        It begins with its first command here. A generation that is still to come no client can have been told.
        """
        if client not in self._table and not self.generation - self.window <= generation <= self.generation:
            return None
        session = self.open(client)
        session.last = self.generation
        return session

    def claim(self, heads: Heads, start: int) -> int:
        """Admit batches from `start` on that come to DONE and tell nothing, or only read, as long as none is known.

        Their numbers are marked as executed, and as done. Returns the position of the first that is not to be executed
        as it is: its session may have ended, or it holds a duplicate. A thousand batches of one command take 0.6 ms;
        one by one, with a result kept for each, 6.
        """
        clients = heads.clients[start:] if start else heads.clients
        self._capture_all(clients)
        table, generation = self._table, self.generation
        oldest = generation - self.window
        position = start
        rest = zip(*(column[start:] for column in heads), strict=True) if start else zip(*heads, strict=True)
        for client, born, first, acked, count in rest:
            session = table.get(client)
            if session is None:
                if not oldest <= born <= generation:
                    break
                session = table[client] = Session()
            end = first + count
            executed = session.executed
            if executed and executed[-1] == first:
                executed[-1] = end
            elif not session.claim(first, end):
                break
            session.last = generation
            if acked > session.acked:
                session.acknowledge(acked)
                if session.weight != session.settled:
                    self._weigh(client, session)
            done = session.done
            if done and done[-1] == first:
                done[-1] = end
            elif end > session.acked:
                intervals.add(done, first, end)
            position += 1
        self._changed.update(heads.clients[start:position])
        return position

    def open(self, client: int) -> Session:
        """The session of a client, to change it."""
        self._capture(client)
        self._changed.add(client)
        session = self._table.get(client)
        if session is None:
            session = self._table[client] = Session()
        return session

    def known(self, client: int, first: int, end: int) -> Session | None:
        """The session of a client, if its numbers from `first` up to, not including, `end` have executed."""
        session = self._table.get(client)
        return None if session is None or session.missing(first, end) else session

    def settle(self, client: int, session: Session) -> None:
        """Take account of a session that has changed, and let go of results beyond the budget."""
        if session.weight > self.budget.session:
            session.forget(self.budget.session)
        self._weigh(client, session)
        while self.weight > self.budget.total:
            heaviest = next(iter(self._levels[max(self._levels)]))
            victim = self.open(heaviest)
            if len(victim.kept) > 1:
                victim.forget(victim.weight // 2)
            else:
                victim.kept, victim.weight = [], 0
            self._weigh(heaviest, victim)

    def _weigh(self, client: int, session: Session) -> None:
        before, after = session.settled, session.weight
        session.settled = after
        self.weight += after - before
        level, wanted = before.bit_length(), after.bit_length()
        if level == wanted:
            return
        if level:
            del self._levels[level][client]
            if not self._levels[level]:
                del self._levels[level]
        if wanted:
            self._levels.setdefault(wanted, {})[client] = None

    def _capture(self, client: int) -> None:
        """Before a session changes: a checkpoint that is being written gets it as it was at the cut."""
        if client in self._frozen:
            self._frozen.remove(client)
            self._captured.append(self._export(client))

    def _capture_all(self, clients: list[int]) -> None:
        if self._frozen and not self._frozen.isdisjoint(clients):
            for client in clients:
                self._capture(client)

    def collect(self, generation: int) -> None:
        """Execute a collection, the one after `generation` others; if another one came first it has been done."""
        if generation == self.generation:
            self._advance(generation + 1)

    def _advance(self, generation: int) -> None:
        self.generation = generation
        oldest = generation - self.window
        for client in [client for client, session in self._table.items() if session.last < oldest]:
            self._capture(client)
            self._changed.add(client)
            session = self._table.pop(client)
            session.weight = 0
            self._weigh(client, session)

    def executed(self) -> dict[int, tuple[int, ...]]:
        """A copy of the executed numbers of every client, as bounds of intervals."""
        return {client: tuple(session.executed) for client, session in self._table.items()}

    def freeze(self, *, whole: bool = False) -> None:
        """Begin to take the sessions that changed since the last call, or all; those of then must have been taken."""
        if self._frozen or self._captured:
            raise InvariantError("sessions were frozen before those frozen earlier had been taken")
        self._frozen, self._changed = set(self._table) if whole else self._changed, set()
        self._frozen_all = frozenset(self._frozen)

    def forget_changes(self) -> None:
        """Which sessions have changed by now will not be asked for."""
        self._changed.clear()

    def thaw(self) -> None:
        """Those frozen last have not been written: they are among the changed ones again."""
        self._changed |= self._frozen_all
        self._frozen.clear()
        self._captured.clear()

    def take(self, most: int) -> list[list[object]]:
        """Some of the frozen sessions, as they were then, as rows for `load`; none when all are taken.

        A row is [client, acked, bounds of executed intervals, and of those done, [[first, outcomes, values], …], last],
        of values that msgpack encodes; of one that has ended it is [client].
        """
        rows, self._captured = self._captured, []
        while self._frozen and len(rows) < most:
            rows.append(self._export(self._frozen.pop()))
        return rows

    def _export(self, client: int) -> list[object]:
        session = self._table.get(client)
        return [client] if session is None else [client, *session.row()]

    @classmethod
    def load(
        cls,
        exported: object,
        budget: Budget = _DEFAULT_BUDGET,
        generation: int = 0,
        window: int = WINDOW,
    ) -> Sessions:
        """The table whose rows `take` gave, after any trip through msgpack.

        Raises:
            FrameError: the values are no such table.
        """
        if type(exported) is not list:
            raise FrameError("malformed", "not a table of sessions")
        sessions = cls(budget, window)
        sessions.generation = generation
        for row in exported:
            client, session = load_row(row)
            if client in sessions._table:
                raise FrameError("malformed", f"not a table of sessions: client {client} has two rows")
            sessions._table[client] = session
            sessions.settle(client, session)
        return sessions

    def merge(self, other: Sessions) -> None:
        """Add what another table knows: the union of executed numbers and of kept results.

        What has ended in either has ended: that comes first, so that nothing is added to a session of another life.
        A result that both keep stays as it is here. `other` must not be used after this.
        """
        self._advance(max(other.generation, self.generation))
        for client, theirs in other._table.items():
            if theirs.last >= self.generation - self.window:
                ours = self.open(client)
                ours.merge(theirs)
                self.settle(client, ours)
