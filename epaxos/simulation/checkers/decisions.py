"""Agreement and visibility: what is decided, is decided once, and of two conflicting commands one covers the other."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeAlias

from epaxos.protocol.contract import Component, Decided
from epaxos.protocol.epaxos.messages import Commit
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector, covers
from epaxos.protocol.log import NOP, Instance, Phase
from epaxos.protocol.membership import Configuration
from epaxos.protocol.multipaxos.messages import DECIDED, Chosen, Voted
from epaxos.protocol.multipaxos.state import LOG, prefix
from epaxos.protocol.quorums import Quorums
from epaxos.simulation.checkers.contents import Content, Contents
from epaxos.simulation.checkers.reference import ANY
from epaxos.simulation.checkers.violation import ViolationError
from epaxos.simulation.world.observer import Observer
from epaxos.storage.journal import rows_of

_Slots: TypeAlias = "defaultdict[bytes, list[list[Slot]]]"


class Decisions(Observer):
    """Notes the decision of every instance where it first shows, and compares all that show later with it.

    A decision shows when its record is durable somewhere, when a Commit leaves, and when it is executed. A
    replica that decides and crashes before any of these has not decided.
    """

    def __init__(self, quorums: Quorums, contents: Contents, rows: int) -> None:
        self._later: dict[int, Decisions] = {}
        self.decided: dict[InstanceId, Decided] = {}
        self._contents = contents
        # Counted here, not asked of what is checked.
        self._slow, self._fast = quorums.n - quorums.f, quorums.n - quorums.e
        self._forgetful: set[Row] = set()
        self._readers: _Slots = defaultdict(lambda: [[] for _ in range(rows)])
        self._writers: _Slots = defaultdict(lambda: [[] for _ in range(rows)])
        self._collections: list[tuple[Decided, Vector]] = []
        self._payloads: list[Decided] = []
        self._votes: defaultdict[InstanceId, dict[tuple[Ballot, Decided], set[Row]]] = defaultdict(dict)
        self._unchanged: defaultdict[InstanceId, dict[Decided, set[Row]]] = defaultdict(dict)

    def of_epoch(self, configuration: Configuration) -> Decisions:
        """See `Observer`: of each epoch all is checked by itself."""
        epoch = configuration.epoch
        if not epoch:
            return self
        if epoch not in self._later:
            self._later[epoch] = Decisions(configuration.quorums, self._contents, rows_of(configuration))
        return self._later[epoch]

    # -- agreement -----------------------------------------------------------------------------------------

    def forgot(self, row: Row) -> None:
        """See `Observer`. Votes of such a replica are none."""
        self._forgetful.add(row)

    def durable(self, row: Row, record: Instance) -> None:
        """See `Observer`."""
        if record.value is None or record.phase < Phase.PREACCEPTED:
            return
        held = Decided(record.id, record.value, record.deps, record.seq)
        if row in self._forgetful and record.phase is not Phase.COMMITTED:
            return
        if record.phase is Phase.COMMITTED:
            self._note_unchanged(row, record)
            self._compare(row, held)
        elif record.phase is Phase.ACCEPTED:
            self._votes[record.id].setdefault((record.abal, held), set()).add(row)
        else:
            self._note_unchanged(row, record)

    def _note_unchanged(self, row: Row, record: Instance) -> None:
        """An owner may write its own vote with the decision (protocol 4.11b)."""
        if record.phase is Phase.COMMITTED and (row != record.id.row or record.abal):
            return
        if record.bal == 0 and record.init is not None and record.deps == record.init.deps:
            proposed = Decided(record.id, *record.init)
            self._unchanged[record.id].setdefault(proposed, set()).add(row)

    def executed(self, row: Row, component: Component, results: Sequence[Any]) -> None:
        """See `Observer`."""
        del results
        for decided in component:
            self._compare(row, decided)

    def left(self, row: Row, receivers: Sequence[Row], message: Any) -> None:
        """See `Observer`."""
        del receivers
        if isinstance(message, Chosen) or (isinstance(message, Voted) and message.abal == DECIDED):
            place = InstanceId(LOG, message.slot)
            self._compare(row, Decided(place, message.value, prefix(message.slot), 0))
        if not isinstance(message, Commit):
            return
        known = self.decided.get(message.id)
        if known is None:
            text = f"replica {row} sends a Commit of {message.id}, of which no decision is durable anywhere"
            raise ViolationError("agreement", text, (message.id,))
        value = known.value if message.value is None else message.value
        self._compare(row, Decided(message.id, value, message.deps, message.seq))

    def _compare(self, row: Row, decided: Decided) -> None:
        known = self.decided.get(decided.id)
        if known is None:
            self._check_quorum(row, decided)
            self.decided[decided.id] = decided
            self._check_visibility(decided)
        elif known != decided:
            text = f"replica {row} has {describe(decided)}, decided was {describe(known)}"
            raise ViolationError("agreement", text, (decided.id,))

    def _check_quorum(self, row: Row, decided: Decided) -> None:
        """A decision rests on a quorum of durable votes for it: of Accepts, or of unchanged PreAccepts."""
        place = decided.id
        unchanged = self._unchanged[place].get(decided, set())
        votes = {
            ballot: sorted(rows) for (ballot, held), rows in self._votes[place].items() if held == decided
        }
        if len(unchanged) >= self._fast or any(len(rows) >= self._slow for rows in votes.values()):
            return
        text = (
            f"replica {row} decides {describe(decided)}, for which there are durable votes of {votes} (by "
            f"ballot) and unchanged pre-acceptances of {sorted(unchanged)}"
        )
        raise ViolationError("quorum", text, (place,))

    # -- visibility ----------------------------------------------------------------------------------------

    def _check_visibility(self, decided: Decided) -> None:
        if decided.value is NOP:
            return
        content = self._contents.of(decided.value)
        self._check_bases(decided, content)
        for key in content.writes:
            self._check_against(decided, self._writers[key], key)
            self._check_against(decided, self._readers[key], key)
            insort(self._writers[key][decided.id.row], decided.id.slot)
        for key in content.reads:
            self._check_against(decided, self._writers[key], key)
            insort(self._readers[key][decided.id.row], decided.id.slot)
        if content.writes:
            self._check_against(decided, self._readers[ANY], ANY)
            insort(self._writers[ANY][decided.id.row], decided.id.slot)

    def _check_bases(self, decided: Decided, content: Content) -> None:
        """Whoever does not depend on a collection and all that it says has executed must be one it depends on."""
        if content.base is not None:
            self._collections.append((decided, content.base))
            for other in self._payloads:
                self._check_base(other, decided, content.base)
        for collection, base in self._collections:
            if collection is not decided:
                self._check_base(decided, collection, base)
        self._payloads.append(decided)

    @staticmethod
    def _check_base(decided: Decided, collection: Decided, base: Vector) -> None:
        above = any(
            slot > decided.deps[row] for row, slot in enumerate(base) if row != decided.id.row
        ) or not covers(decided.deps, collection.id)
        if above and not covers(collection.deps, decided.id):
            text = f"{describe(decided)} does not cover the collection {describe(collection)}, nor that it"
            raise ViolationError("visibility", text, (decided.id, collection.id))

    def _check_against(self, decided: Decided, others: list[list[Slot]], key: bytes) -> None:
        """Everything above the decided dependencies must depend on the decided instance."""
        for row, slots in enumerate(others):
            if not slots or slots[-1] <= decided.deps[row]:
                continue
            for slot in slots[bisect_right(slots, decided.deps[row]) :]:
                other = self.decided[InstanceId(row, slot)]
                if other is decided:
                    continue
                if not covers(other.deps, decided.id):
                    text = (
                        f"{describe(decided)} and {describe(other)} share {key!r}; neither covers the other"
                    )
                    raise ViolationError("visibility", text, (decided.id, other.id))


def describe(decided: Decided) -> str:
    """A decision in a few words."""
    value = "no-op" if decided.value is NOP else repr(decided.value)
    return f"{decided.id} = {value} deps={decided.deps} seq={decided.seq}"
