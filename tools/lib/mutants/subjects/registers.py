"""Mutants of registers (`epaxos.protocol.registers`), the bugs of well-known implementations among them."""

from __future__ import annotations

from typing import Final

from mutants.mutation import REGISTERS, Mutant, Patch

_ACCEPTOR: Final = "epaxos.protocol.registers.acceptor"
_CHANGE: Final = "epaxos.protocol.registers.change"
_PROPOSER: Final = "epaxos.protocol.registers.proposer"
_UPKEEP: Final = "epaxos.protocol.registers.upkeep"
_OBSERVING: Final = "epaxos.protocol.registers.observing"
_VALUES: Final = "epaxos.protocol.registers.values"
_MACHINES: Final = "epaxos.simulation.registers.machines"

_REFUSED: Final = """        if ballot < cell.promised or ballot <= cell.dropped:
            return self._conflict(request, cell)
"""
_PREPARED: Final = _REFUSED + "        answer = Promise"
_VOTED: Final = _REFUSED + "        voted = ("
_COUNTERS: Final = "ballot.counter < cell.promised.counter"

COLLECTING: Final = REGISTERS._replace(
    name="registers, collecting", options=(("kinds", ("collect", "collect", "collect")), ("once", False))
)
"""Three collections, among changes and deletions."""

GROWING: Final = REGISTERS._replace(
    name="registers, two acceptors join", replicas=3, options=(("kinds", ("grow", "grow")),)
)

UNTOLD: Final = REGISTERS._replace(
    name="registers, collected, and answers lost",
    replicas=3,
    operations=12,
    faults="loss,reorder,duplicate",
    options=(("kinds", ("collect",) * 6), ("numbered", False), ("once", False)),
)
"""What was changed is deleted and forgotten before the proposer hears of its votes."""

WATCHED: Final = COLLECTING._replace(
    name="registers, watched and collected",
    operations=24,
    options=(("kinds", ("collect", "collect", "collect")), ("once", False), ("observers", 1)),
)
"""An observer copies all registers, among crashes and collections."""

HELD: Final = REGISTERS._replace(
    name="registers, held over two growths",
    replicas=3,
    faults="clock",
    options=(("kinds", ("grow", "grow")), ("held", True), ("firsts", 2)),
)
"""A proposer is not heard while acceptors join, and then all fall in halves."""

ASKED_AGAIN: Final = REGISTERS._replace(
    name="registers, asked again", operations=12, options=(("kinds", ()), ("once", True))
)
"""Clients that ask again, elsewhere, for what they do not know of."""

CRASHING: Final = REGISTERS._replace(
    name="registers, crashing", replicas=3, operations=12, faults="crash", options=(("kinds", ()),)
)

UNNUMBERED: Final = REGISTERS._replace(
    name="registers, unnumbered changes that are lost and late",
    replicas=3,
    operations=24,
    faults="loss,reorder,duplicate",
    options=(("kinds", ()), ("numbered", False), ("once", False)),
)

BALLOTS: Final = (
    Mutant(
        "register-quorum-counted-down",
        "what is needed is counted down and then compared with the count: 1 of 3, 2 of 5, 2 of 7 decide",
        "registers",
        Patch(_VALUES, "return len(self.prepare) // 2 + 1", "return max(1, (len(self.prepare) + 1) // 3)"),
        Patch(_VALUES, "return len(self.accept) // 2 + 1", "return max(1, (len(self.accept) + 1) // 3)"),
        draw=REGISTERS,
    ),
    Mutant(
        "register-tie-ignored",
        "ballots are compared by their counters alone",
        "registers",
        Patch(_ACCEPTOR, _PREPARED, _PREPARED.replace("ballot < cell.promised", _COUNTERS)),
        Patch(_ACCEPTOR, _VOTED, _VOTED.replace("ballot < cell.promised", _COUNTERS)),
        draw=REGISTERS,
    ),
    Mutant(
        "register-ballot-reused",
        "a proposer counts from 0 again after a restart",
        "registers",
        Patch(
            _CHANGE,
            "self._counter = self._reserved = durable",
            "self._counter, self._reserved = 0, durable",
        ),
        draw=CRASHING,
    ),
    Mutant(
        "register-first-by-anybody",
        "whoever finds nothing known of a register takes the ballot below all others",
        "registers",
        Patch(_CHANGE, "if self.want.first and known is None", "if not self.want.reads and known is None"),
        draw=REGISTERS,
    ),
    Mutant(
        "register-first-despite-promise",
        "an acceptor that has promised, and accepted nothing yet, takes the ballot below all others",
        "registers",
        Patch(
            _ACCEPTOR,
            "if cell is None and ballot == FIRST:",
            "if (cell is None or cell.accepted == ZERO) and ballot == FIRST:",
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-accepted-told-on-retry-only",
        "what was accepted before counts only from the second attempt on",
        "registers",
        Patch(
            _CHANGE,
            "            self._propose(latest.accepted, latest.state, now, asks)\n",
            "            first = self.attempts == 1\n"
            "            self._propose(\n"
            "                ZERO if first else latest.accepted, EMPTY if first else latest.state, now, asks\n"
            "            )\n",
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-any-promise",
        "the state of some promise is taken, not that of the highest ballot",
        "registers",
        Patch(_CHANGE, "max(promises, key=lambda promise: promise.accepted)", "promises[0]"),
        draw=REGISTERS,
    ),
    Mutant(
        "register-promise-not-durable",
        "a promise is kept in memory alone",
        "registers",
        Patch(
            _MACHINES,
            '            entries.append(Entry(b"c" + cell.key, encode(cell), cell))\n',
            "            if isinstance(message, Accept):\n"
            '                entries.append(Entry(b"c" + cell.key, encode(cell), cell))\n',
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-told-before-durable",
        "who asks what was accepted is told what is still on its way to the disk",
        "registers",
        Patch(
            _MACHINES,
            "        self.disk.write(entries, partial(self._send, sender, answer))\n",
            "        if isinstance(message, Peek):\n"
            "            self._send(sender, answer)\n"
            "            return\n"
            "        self.disk.write(entries, partial(self._send, sender, answer))\n",
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-compare-inverted",
        "an acceptor refuses what is above its promise, and takes what is below",
        "registers",
        Patch(_ACCEPTOR, _VOTED, _VOTED.replace("ballot < cell.promised", "ballot > cell.promised")),
        draw=REGISTERS,
    ),
    Mutant(
        "register-refusal-waited-for",
        "after a refusal, an attempt waits for acceptors that are gone, to its end",
        "registers",
        Patch(
            _CHANGE,
            "if self._count(Conflict) and self._may_begin_anew():",
            "if self.phase is Phase.DONE:",
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-conflict-without-ballot",
        "a refusal does not say what stands in the way",
        "registers",
        Patch(_ACCEPTOR, "request.ballot, cell.promised, never)", "request.ballot, ZERO, never)"),
        draw=REGISTERS,
    ),
)

OUTCOMES: Final = (
    Mutant(
        "register-retry-after-partial-accept",
        "a change is made again although an acceptor took its first attempt",
        "registers",
        Patch(
            _CHANGE,
            "            if not (self.want.repeatable or self.want.reads):\n                return False\n",
            "",
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-refusal-taken-for-never",
        "every refusal says that the ballot was never taken",
        "registers",
        Patch(_ACCEPTOR, "never = request.ballot > max(last, cell.dropped)", "never = bool(last or True)"),
        draw=UNTOLD,
    ),
    Mutant(
        "register-votes-forgotten",
        "an acceptor knows no vote but the last, and says never of what it took before",
        "registers",
        Patch(
            _ACCEPTOR,
            "(*(other for other in cell.voted if other.proposer != ballot.proposer), ballot)",
            "(ballot,)",
        ),
        draw=UNNUMBERED,
    ),
    Mutant(
        "register-partial-taken-for-failed",
        "a majority of refusals in the second phase is taken for a failure",
        "registers",
        Patch(
            _CHANGE,
            "return self._count(Conflict) == len(self._asked) and self._all_never()",
            "return self._all_never()",
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-failed-after-doubt",
        "a time-out is a failure although an attempt before may have been taken",
        "registers",
        Patch(
            _CHANGE,
            "self.want.reads or (self._doubtful is None and self.phase is not Phase.ACCEPT)",
            "self.want.reads or self.phase is not Phase.ACCEPT",
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-cache-kept-after-unknown",
        "the promise that came with the last change is used again after an attempt with it came to nothing",
        "registers",
        Patch(
            _CHANGE,
            "known = self._known.pop(self.want.key, None)\n        fresh",
            "known = self._known.get(self.want.key)\n        fresh",
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-cached-promise-after-conflict",
        "the next attempt after a refusal uses the refused promise once more",
        "registers",
        Patch(
            _CHANGE,
            "known = self._known.pop(self.want.key, None)\n        fresh",
            "known = self._known.get(self.want.key)\n        fresh",
        ),
        Patch(
            _CHANGE,
            "known.version == configuration.version and self.attempts == 1",
            "known.version == configuration.version",
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-cache-put-back-early",
        "the promise of an Accept counts before a majority has given it",
        "registers",
        Patch(
            _CHANGE,
            "        self._enter(Phase.ACCEPT, now, asks)\n",
            "        version = self.configuration.version\n"
            "        self._known[self.want.key] = Known(version, self._following, self.ballot, self.state)\n"
            "        self._enter(Phase.ACCEPT, now, asks)\n",
        ),
        draw=REGISTERS,
    ),
    Mutant(
        "register-peek-at-one",
        "a read believes the first acceptor that answers",
        "registers",
        Patch(_CHANGE, "        if len(seen) < self.configuration.votes:\n", "        if not seen:\n"),
        Patch(_CHANGE, "        if count < self.configuration.votes:\n", "        if not count:\n"),
        draw=REGISTERS,
    ),
    Mutant(
        "register-peek-at-a-mixture",
        "a read believes the most frequent ballot of a majority's answers",
        "registers",
        Patch(_CHANGE, "        if count < self.configuration.votes:\n", "        if not count:\n"),
        draw=REGISTERS,
    ),
    Mutant(
        "register-tried-again-after-collection",
        "after doubt a change is made again in a register that was collected since",
        "registers",
        Patch(_CHANGE, "self._doubtful is not None and dropped >= self._doubtful", "bool(dropped and False)"),
        draw=COLLECTING,
        schedule="tests/unit/protocol/registers/test_change.py::test_nothing_is_tried_again_after_a_collection",
    ),
    Mutant(
        "register-once-forgotten",
        "a change that is asked for again is made again",
        "registers",
        Patch(
            "epaxos.protocol.registers.steps",
            "            if kept.client == client and kept.number >= number:\n",
            "            if kept.client == client and kept.number > number:\n",
        ),
        draw=ASKED_AGAIN,
    ),
    Mutant(
        "register-once-only-of-changes",
        "a change that found nothing to change is not remembered, and a late copy of it may find something",
        "registers",
        Patch(
            "epaxos.protocol.registers.steps",
            "        others = [kept",
            "        if after == state:\n            return state, result\n        others = [kept",
        ),
        schedule="tests/unit/protocol/registers/test_change.py::test_a_change_in_vain_is_remembered",
    ),
)

UPKEEP: Final = (
    Mutant(
        "register-removed-by-value",
        "an acceptor removes what holds no value, whatever it has promised and accepted since",
        "registers",
        Patch(_ACCEPTOR, "not cell.promised == cell.accepted == ballot or cell.state", "cell.state"),
        draw=COLLECTING,
    ),
    Mutant(
        "register-removed-despite-promise",
        "an acceptor removes a tombstone above which it has promised",
        "registers",
        Patch(_ACCEPTOR, "not cell.promised == cell.accepted == ballot", "cell.accepted != ballot"),
        draw=COLLECTING,
    ),
    Mutant(
        "register-never-changed-collected",
        "a register that was only read is forgotten, and its first change is still under way",
        "registers",
        Patch(
            _UPKEEP,
            "done.verdict is Verdict.DONE and done.state.value is None and done.state != EMPTY",
            "done.verdict is Verdict.DONE and done.state.value is None",
        ),
        draw=COLLECTING,
    ),
    Mutant(
        "register-floor-not-raised",
        "what was removed may be accepted again by a message from before",
        "registers",
        Patch(_ACCEPTOR, "        self.floor = max(self.floor, ballot)\n", ""),
        draw=COLLECTING,
    ),
    Mutant(
        "register-tombstone-at-majority",
        "a register is removed when a majority has its tombstone",
        "registers",
        Patch(
            _CHANGE,
            "needed = len(self._asked) if self.want.everywhere else self.configuration.votes",
            "needed = self.configuration.votes",
        ),
        draw=COLLECTING,
    ),
    Mutant(
        "register-settled-too-early",
        "a proposer confirms a configuration with attempts of the one before under way",
        "registers",
        Patch(
            _PROPOSER,
            "            change.configuration.version == version or change.phase is Phase.PAUSE\n",
            "            change.configuration.version <= version\n",
        ),
        draw=HELD,
    ),
    Mutant(
        "register-growth-without-rescan",
        "acceptors join, and values stay where they were chosen",
        "registers",
        Patch(
            _UPKEEP,
            "            rescanned += yield from _rescan(now, number, after)\n",
            "            pass\n",
        ),
        draw=GROWING,
    ),
)

OBSERVERS: Final = (
    Mutant(
        "register-observed-at-one",
        "an observer tells what one acceptor took",
        "registers",
        Patch(
            _OBSERVING,
            "& set(configuration.accept)) >= configuration.votes:",
            "& set(configuration.accept)) >= 1:",
        ),
        draw=WATCHED,
    ),
    Mutant(
        "register-gap-passed-over",
        "an observer goes on where an acceptor's feed begins, though it does not know what came before",
        "registers",
        Patch(
            _OBSERVING,
            "        self._gap = True\n        self._broken.add(acceptor)\n",
            "        self._gap = place is _NOWHERE\n        self._broken.add(acceptor)\n",
        ),
        draw=WATCHED,
    ),
    Mutant(
        "register-compaction-unnoticed",
        "an observer that was away while deleted registers were collected keeps them",
        "registers",
        Patch(
            _OBSERVING,
            "if len(self._missed.intersection(members)) > len(members) - configuration.votes:",
            "if len(self._missed.intersection(members)) > len(members):",
        ),
        draw=WATCHED,
    ),
)
