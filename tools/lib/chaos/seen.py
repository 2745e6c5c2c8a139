"""What watchers were told, and whether that is all that happened to their keys, of each key in its order.

Two kinds of keys are judged, each by a record that has nothing to do with watching:

**Keys of an epoch** by its history. The values that a watcher was told of one, end to end, are its *chain*. Each
change of it must be that of one command: of one that was answered, or perhaps of one without an answer. It must fit to
what was there before and to the answer, the order of the chain to the times of asking and answer, and no command that
was answered with a change may be missing. Chains of watchers without a gap are looked at so; one of them explains what
happened: all watchers must walk along it. Of a command that removed keys by their prefix the answer says how many those
were, so all keys of an epoch together must have gone as often as that.

**Keys of the ledger** by what they hold in the end: a counter was 1, 2, 3 and so on, a text had its marks one by one.

A watcher walks along a chain: what it is told comes next. Where it has gone on from its position it may be told some
of it again, so it takes up the walk at any place that it has passed. A gap that was told (`RESET`) excuses what lies in
it: with the state the walk is taken up anywhere ahead where the key has that value. Of a key that changed while all who
watch it were told of a gap, only what came before that is judged; it is counted as excused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import accumulate
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

from chaos.ledger import SHOWN
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.reference import parts_of
from epaxos.statemachine.operations import READERS, READERS_OF_ALL, Operation, Outcome

LEDGER: Final = b"ledger."
RECORDED: Final = b"chaos."
MOST_CHAINS: Final = 100
"""Of one watcher and key, so many are thought of."""

_TEXT: Final = b".text."
_READING: Final = READERS | READERS_OF_ALL

Value: TypeAlias = "bytes | None"
Chain: TypeAlias = "tuple[Value, ...]"


class Mark(Enum):
    """What a watcher went through: it went on from its position; the state as it stands follows; that is complete."""

    RESUMED = "resumed"
    RESET = "reset"
    SYNCED = "synced"


class _Part(NamedTuple):
    """Values that were told of a key after so many marks."""

    marks: int
    values: list[Value]


class Span(NamedTuple):
    """When a watcher was told of keys that were absent at first: after `first` marks, and without a gap up to `end`.

    Without `has_gap` that is all of it; where the state was just being told at the beginning, `end` is -1.
    """

    first: int
    end: int
    has_gap: bool


class Told:
    """What one watcher was told, of keys that begin with a prefix; its times are those of the history's clock."""

    def __init__(self, name: str, prefix: bytes) -> None:
        self.name = name
        self.prefix = prefix
        self.counts: Counter[str] = Counter()
        self.marks: list[Mark] = []
        self.times: list[float] = []
        self.parts: defaultdict[int, dict[bytes, list[_Part]]] = defaultdict(dict)
        self.places: dict[bytes, tuple[int, int]] = {}
        self.last = dict.fromkeys(Mark, 0)
        """Of each kind of mark, how many there were with its last one."""

    @property
    def is_synced(self) -> bool:
        """Whether it knows the state, and follows what changes."""
        return self.last[Mark.SYNCED] > self.last[Mark.RESET]

    def mark(self, mark: Mark, now: float) -> None:
        """It went through this."""
        if mark is Mark.RESET and self.last[Mark.RESET]:
            self.counts["gaps"] += 1
        elif mark is Mark.RESUMED:
            self.counts["resumes"] += 1
        self.marks.append(mark)
        self.times.append(now)
        self.last[mark] = len(self.marks)

    def add(self, epoch: int, key: bytes, value: Value) -> None:
        """It was told of a key of an epoch."""
        parts = self.parts[epoch].setdefault(key, [])
        if not parts or parts[-1].marks != len(self.marks):
            parts.append(_Part(len(self.marks), []))
        parts[-1].values.append(value)

    def span(self, begun: float) -> Span:
        """How it stood with what it knew of keys that nobody had written before a time."""
        known, state = 0, Mark.RESET
        for place, (mark, at) in enumerate(zip(self.marks, self.times, strict=True)):
            if mark is Mark.RESUMED:
                continue
            if at > begun:
                return Span(known, place if state is Mark.SYNCED else -1, has_gap=True)
            known, state = place + (mark is Mark.SYNCED), mark
        return Span(known, len(self.marks), has_gap=state is not Mark.SYNCED)

    def of(self, epoch: int, key: bytes) -> list[_Part]:
        """All that it was told of a key of an epoch."""
        return self.parts[epoch].get(key, []) if epoch in self.parts else []


class _Cause:
    """A command, or a part of one, that changed a key; or may have, if it is `open`."""

    __slots__ = ("answer", "argument", "call", "open", "operation")

    def __init__(self, call: Call, operation: int, argument: Any, answer: Any) -> None:
        self.call = call
        self.operation = operation
        self.argument = argument
        self.open = call.answered is None
        self.answer = answer

    def fits(self, before: Value, value: bytes) -> bool:
        """Whether it makes this value of that, and was answered so."""
        argument, answer = self.argument, self.answer
        if self.operation == Operation.APPEND:
            return value == (before or b"") + argument and (self.open or answer == len(value))
        if self.operation == Operation.CAS:
            return [before, value] == list(argument)
        return bool(value == argument) and (
            self.operation == Operation.WRITE or self.open or answer == before
        )


class Script:
    """The commands that may have changed one key, which was absent before them."""

    def __init__(self) -> None:
        self._named: dict[bytes, _Cause] = {}
        self._steps: Counter[tuple[int, bytes]] = Counter()
        self._open_steps: Counter[int] = Counter()
        self._deleted = self._perhaps_deleted = 0

    def add(self, cause: _Cause) -> None:
        """One more of them."""
        if cause.operation == Operation.DELETE:
            self._perhaps_deleted += cause.open
            self._deleted += not cause.open
        elif cause.operation == Operation.INCREMENT:
            if cause.open:
                self._open_steps[cause.argument] += 1
            else:
                self._steps[cause.argument, b"%d" % cause.answer] += 1
        else:
            self._named[cause.argument[1] if cause.operation == Operation.CAS else cause.argument] = cause

    def cleared(self, *, certainly: bool) -> None:
        """A command on keys that begin alike has removed it, or may have."""
        self._deleted += certainly
        self._perhaps_deleted += not certainly

    def wrong(self, chain: Chain, *, whole: bool) -> str:
        """What speaks against it that the key changed like this, or at first, if not `whole`; empty if nothing does."""
        before: Value = None
        used = set[int]()
        steps = Counter[tuple[int, bytes]]()
        deletes, latest = 0, -inf
        for value in chain:
            if value is None:
                deletes += 1
                fault = "" if before is not None else "it went twice"
            elif self._steps or self._open_steps:
                steps[int(value) - int(before or b"0"), value] += 1
                fault = ""
            else:
                cause = self._cause_of(before, value)
                if cause is None:
                    return f"no command made {_shown(value)} of {_shown(before)}"
                fault = _misplaced(cause, used, latest)
                used.add(id(cause))
                latest = max(latest, cause.call.invoked)
            if fault:
                return f"{fault}, as {_shown(value)} came after {_shown(before)}"
            before = value
        return self._miscounted(steps, deletes, whole=whole) or (self._missing(used) if whole else "")

    def _cause_of(self, before: Value, value: bytes) -> _Cause | None:
        for name in (value, value[len(before or b"") :]):
            cause = self._named.get(name)
            if cause is not None and cause.fits(before, value):
                return cause
        return None

    def _miscounted(self, steps: Counter[tuple[int, bytes]], deletes: int, *, whole: bool) -> str:
        more = Counter[int]()
        for (amount, _), times in (steps - self._steps).items():
            more[amount] += times
        if more - self._open_steps or deletes > self._deleted + self._perhaps_deleted:
            return "there were not so many commands"
        if whole and (self._steps - steps or deletes < self._deleted):
            return "a command that was answered is missing"
        return ""

    def _missing(self, used: set[int]) -> str:
        for cause in self._named.values():
            if not cause.open and id(cause) not in used:
                return f"{cause.call} {cause.call.command}, which was answered, is missing"
        return ""


def _misplaced(cause: _Cause, used: set[int], latest: float) -> str:
    if id(cause) in used:
        return f"{cause.call} executed twice"
    if cause.call.answered is not None and cause.call.answered < latest:
        return f"{cause.call} comes after one that was asked when it had been answered"
    return ""


class Removals:
    """How often all keys of an epoch together went: `least` by answered commands, at most `most`."""

    def __init__(self) -> None:
        self.least = 0
        self.most = 0.0

    def add(self, operation: int, result: Any) -> None:
        """One more command of the epoch, with its result if that is known."""
        if result is None:
            self.most += {Operation.CLEAR: inf, Operation.DELETE: 1}.get(Operation(operation), 0)
        elif result[0] == Outcome.DONE and operation in {Operation.CLEAR, Operation.DELETE}:
            removed = result[1][0] if operation == Operation.CLEAR else 1
            self.least += removed
            self.most += removed


def scripts_of(calls: Iterable[Call]) -> tuple[dict[bytes, Script], Removals]:
    """The commands of a history that changed keys, or may have, by key; and how many keys they removed."""
    scripts, removals = defaultdict[bytes, Script](Script), Removals()
    clears: list[tuple[bytes, Any, Any]] = []
    for call in calls:
        for operation, key, argument, result in _commands(call):
            removals.add(operation, result)
            if operation == Operation.CLEAR:
                clears.append((key, argument, result))
            elif operation not in _READING and (result is None or result[0] == Outcome.DONE):
                answer = None if result is None else result[1]
                scripts[key].add(_Cause(call, operation, argument, answer))
    for key, script in scripts.items():
        for prefix, (after, _), result in clears:
            removed, last = (1, None) if result is None else result[1]
            if not (removed and key.startswith(prefix) and key > (after or b"")):
                continue
            if last is None or key <= last:
                script.cleared(certainly=key == last)
    return dict(scripts), removals


def _commands(call: Call) -> Iterator[tuple[int, bytes, Any, Any]]:
    """The operations of a call, each with its result, None where that is not known."""
    if call.command.operation != Operation.MULTI:
        yield *call.command, call.result
        return
    parts = parts_of(call.command)
    results: Iterable[Any] = [None] * len(parts) if call.result is None else zip(*call.result[1], strict=True)
    for part, result in zip(parts, results, strict=True):
        yield *part, result


def chains_of(parts: Sequence[_Part], script: Script) -> list[Chain]:
    """What a watcher without a gap may have been told of a key, without what it was told again; shorter ones first.

    With values that come more than once, as of numbers, that may be one of several chains. Of those that the commands
    do not allow none is thought of further, unless there is no other; nor of more than `MOST_CHAINS`.
    """
    chains: list[Chain] = [()]
    for part in parts:
        values = tuple(part.values)
        taken_up = dict.fromkeys(
            chain[:place] + values + chain[place + len(values) :]
            for chain in chains
            for place in range(len(chain), -1, -1)
            if chain[place : place + len(values)] == values[: len(chain) - place]
        )
        chains = sorted(taken_up, key=len)
        if len(chains) > 1:
            chains = [one for one in chains if not script.wrong(one, whole=False)] or chains
        del chains[MOST_CHAINS:]
    return chains


class Walk(NamedTuple):
    """How far a watcher came along a chain: whether to its `end`, and what it was told that it cannot have been."""

    end: bool
    wrong: str = ""


def walk(chain: Chain, marks: Sequence[Mark], parts: Sequence[_Part], first: int = 0) -> Walk:
    """Whether this can be told of a key that changed like this, and was absent after the first marks.

    `at` has a bit for each number of changes that the watcher may know of; `after` of each value those after which the
    key has it.
    """
    after = defaultdict[Value, int](int, {None: 1})
    for place, value in enumerate(chain, 1):
        after[value] |= 1 << place
    told = dict(parts)
    at, anew = 1, False
    if min(told, default=first) < first:
        return Walk(end=False, wrong="told of a change before any was asked for")
    for count in range(first, len(marks) + 1):
        mark = marks[count - 1] if count > first else None
        if mark is Mark.RESET:
            at, anew = (2 << len(chain)) - (at & -at), True  # nowhere before what it has passed for certain
        elif mark is Mark.SYNCED and anew:
            at, anew = at & after[None], False
        elif mark is Mark.RESUMED and not anew:
            at = (1 << at.bit_length()) - 1
        if not at:
            return Walk(end=False, wrong="it was not in the state that was told")
        for value in told.get(count, ()):
            at, anew = (at if anew else at << 1) & after[value], False
            if not at:
                return Walk(end=False, wrong=f"told {_shown(value)} out of turn")
    return Walk(end=not anew and bool(at >> len(chain) & 1))


class _Range(NamedTuple):
    """A number that is one of these."""

    least: int
    most: int


def _lost(chain: Chain, spans: Mapping[Told, Span], epoch: int, key: bytes) -> Iterator[tuple[str, str]]:
    """Which watchers cannot walk to the end of a chain, and why."""
    for told, span in spans.items():
        walked = walk(chain, told.marks, told.of(epoch, key), span.first)
        if not walked.end:
            yield told.name, walked.wrong or "not told of the last changes"


def _misremoved(epoch: int, removed: Sequence[_Range], removals: Removals) -> Iterator[str]:
    """What speaks against it that the keys of an epoch went so often."""
    least, most = sum(one.least for one in removed), sum(one.most for one in removed)
    if most < removals.least or least > removals.most:
        yield (
            f"epoch {epoch}: keys went {least} to {most} times, and {removals.least} to {removals.most:g} "
            "by their commands"
        )


class Seen:
    """What some watchers were told, judged as it can be: epochs once all have been told all of it, the rest in the end.

    `wrong` are the first things that are, `counts` what has been judged, by what it is.
    """

    def __init__(self, watchers: Sequence[Told]) -> None:
        self.watchers = watchers
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self._scripts: dict[int, tuple[dict[bytes, Script], Removals]] = {}
        self._begun: dict[int, float] = {}
        self._values: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._judged: set[int] = set()
        self._texts: dict[tuple[bytes, int], int] = {}

    def changed(self, told: Told, key: bytes, value: Value) -> None:
        """A watcher was told of a key: a change, or while it learns of the state its value."""
        told.counts["changes"] += 1
        if key.startswith(LEDGER):
            self._count(told, key, value)
            return
        if not key.startswith(RECORDED):
            return
        epoch = int(key.split(b".")[1])
        if epoch not in self._judged:
            told.add(epoch, key, None if value is None else self._values[epoch].setdefault(value, value))

    def recorded(self, epoch: int, calls: Sequence[Call]) -> None:
        """The history of an epoch is complete; judges those of which all have been told all."""
        self._scripts[epoch] = scripts_of(calls)
        self._begun[epoch] = min((call.invoked for call in calls), default=-inf)
        for number in list(self._scripts):
            self._judge(number)

    def is_complete(self, values: Mapping[bytes, Value]) -> bool:
        """Whether all watchers have been told all, if the ledger's keys hold these values in the end."""
        for number in list(self._scripts):
            self._judge(number)
        return not self._scripts and not any(self._left(values))

    def finish(self, values: Mapping[bytes, Value]) -> None:
        """Judge all that is left: nobody will be told anything more."""
        for number in list(self._scripts):
            self._judge(number, last=True)
        strangers = {number for told in self.watchers for number in told.parts} - self._judged
        self._report(f"epoch {number}: keys that nobody has written" for number in sorted(strangers))
        self._report(self._left(values))
        self.counts["keys"] += len(values)

    @property
    def totals(self) -> Counter[str]:
        """What all watchers together went through, and what was judged."""
        return sum((told.counts for told in self.watchers), self.counts)

    def _report(self, faults: Iterable[str]) -> None:
        for fault in faults:
            if len(self.wrong) == SHOWN:
                return
            self.wrong.append(fault)

    # -- keys of an epoch ----------------------------------------------------------------------------------

    def _judge(self, epoch: int, *, last: bool = False) -> None:
        (scripts, removals), counts = self._scripts[epoch], Counter[str]()
        keys = scripts.keys() | {key for told in self.watchers for key in told.parts.get(epoch, ())}
        faults: list[str] = []
        removed: list[_Range] = []
        for key in sorted(keys):
            faults += self._faults(epoch, key, scripts.get(key) or Script(), counts, removed)
            if faults and not last:
                return  # perhaps somebody has yet to be told
        if len(removed) == len(keys) and not faults:
            faults += _misremoved(epoch, removed, removals)
        self._report(faults)
        self.counts += counts
        self._judged.add(epoch)
        del self._scripts[epoch]
        self._values.pop(epoch, None)
        for told in self.watchers:
            told.parts.pop(epoch, None)

    def _faults(
        self, epoch: int, key: bytes, script: Script, counts: Counter[str], removed: list[_Range]
    ) -> Iterator[str]:
        """What is wrong with a key; where it is known how often it went, it is added to `removed`."""
        watching = [told for told in self.watchers if key.startswith(told.prefix)]
        if not watching:
            return
        name = key.decode(errors="replace")
        counts["keys"] += 1
        spans = {told: told.span(self._begun[epoch]) for told in watching}
        each = [chains_of(told.of(epoch, key), script) for told, span in spans.items() if not span.has_gap]
        chains = Counter(one for some in each for one in some)
        if not chains:
            counts["excused"] += 1
            for told, span in spans.items():
                before = chains_of([part for part in told.of(epoch, key) if part.marks <= span.end], script)
                wrong = [script.wrong(one, whole=False) for one in before]
                if all(wrong):
                    yield f"{told.name}, {name}: {wrong[0]}"
            return
        likely_first = sorted(chains, key=lambda one: (chains[one], len(one)), reverse=True)
        possible = [one for one in likely_first if not script.wrong(one, whole=True)]
        if not possible:
            yield f"{name}: {script.wrong(likely_first[0], whole=True)}"
            return
        lost = [list(_lost(one, spans, epoch, key)) for one in possible]
        explaining = [one for one, fault in zip(possible, lost, strict=True) if not fault]
        if not explaining:
            yield from (f"{who}, {name}: {fault}" for who, fault in lost[0])
        elif max(map(len, each)) < MOST_CHAINS:
            times = [one.count(None) for one in explaining]
            removed.append(_Range(min(times), max(times)))

    # -- keys of the ledger --------------------------------------------------------------------------------

    def _count(self, told: Told, key: bytes, value: Value) -> None:
        """A key of which it is known what comes after what: `place` is how many changes there were with this one."""
        is_text = _TEXT in key
        place = 0 if value is None else value.count(b";") if is_text else int(value)
        before, marks = told.places.get(key, (0, 0))
        told.places[key] = place, len(told.marks)
        if told.last[Mark.RESET] > marks:
            right = place >= max(before, 1) if not told.is_synced else before == 0 and place == 1
        else:
            resumed = told.last[Mark.RESUMED] > marks
            right = place == before + 1 or (resumed and 0 < place <= before)
        if is_text and value is not None:
            right &= self._texts.setdefault((key, place), hash(value)) == hash(value)
        if not right:
            self._report(
                [f"{told.name}, {key.decode()}: told {_shown(value)} as change {place} after {before}"]
            )

    def _left(self, values: Mapping[bytes, Value]) -> Iterator[str]:
        """Who was not told all of the state, or of what keys of the ledger have come to."""
        for told in self.watchers:
            if not told.is_synced:
                yield f"{told.name}: not told all of the state"
        for key, value in values.items():
            texts = _prefixes(key, value)
            if any(self._texts.get((key, place), text) != text for place, text in enumerate(texts, 1)):
                yield f"{key.decode()}: a text was told that it cannot have been"
            end = len(texts) if _TEXT in key else int(value or b"0")
            for told in self.watchers:
                place, marks = told.places.get(key, (0, 0))
                lost = told.last[Mark.RESET] > marks and end
                if key.startswith(told.prefix) and (place != end or lost):
                    yield f"{told.name}, {key.decode()}: told of {0 if lost else place} of {end} changes"


def _prefixes(key: bytes, value: Value) -> list[int]:
    """Hashes of what a text was, mark by mark."""
    if _TEXT not in key or not value:
        return []
    marks = [mark + b";" for mark in value.split(b";")[:-1]]
    return list(map(hash, accumulate(marks)))


def _shown(value: Value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:30]}…{text[-25:]}"
