"""Linearizability of a history of which nothing but the clients' side is known: the search of Wing and Gong.

Keys that no command touches together are independent, so each such group of keys is searched by itself (a history is
linearizable if its parts are); a command on keys that begin alike makes one group of them. Within a group the search
goes through configurations: which commands have had their moment, and the store they left. A configuration is looked at
once (Lowe's memo). A command that fits and by its answer changed nothing takes its moment at once, without an
alternative: that is never worse than later. No value goes that is needed still (`needs`). The first makes the search
finite; the others, and trying commands in the order of their answers, make it linear in practice. It never gives up
silently: where it takes more than `budget` configurations, the finding says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import chain
from math import inf
from typing import NamedTuple, TypeAlias

from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.needs import Needs, changes_nothing
from epaxos.simulation.checkers.reference import State, execute, only_reads, touched
from epaxos.statemachine.operations import ON_ALL, Operation, Outcome

_Frozen: TypeAlias = "tuple[bytes | None, ...]"
"""The values of the keys of a group, in the order of its keys."""


class Linearizability(Enum):
    """What a search can find."""

    LINEARIZABLE = "linearizable"
    VIOLATION = "not linearizable"
    UNDECIDED = "undecided"


class Finding(NamedTuple):
    """What a search found, and for anything but LINEARIZABLE which keys and commands it is about."""

    verdict: Linearizability
    text: str = ""


def search(
    calls: Iterable[Call], longest_value: int, budget: int = 1_000_000, results: int = 2**62
) -> Finding:
    """Look for an order of all answered commands, and some of the others, that explains every answer.

    The store begins empty; values may have `longest_value` bytes, pages `results`. `budget` bounds the configurations
    of one group of keys.
    """
    undecided = Finding(Linearizability.LINEARIZABLE)
    for keys, group in _groups(calls):
        finding = _Group(keys, group, longest_value, results).search(budget)
        if finding.verdict is Linearizability.VIOLATION:
            return finding
        if finding.verdict is Linearizability.UNDECIDED:
            undecided = finding
    return undecided


def _keys_of(call: Call, all_keys: Sequence[bytes]) -> Sequence[bytes]:
    """The keys on which a command depends; with a prefix also that itself: a list of no known keys is judged too."""
    if call.command.operation in ON_ALL:
        prefix = call.command.key
        return [prefix, *(key for key in all_keys if key.startswith(prefix) and key != prefix)]
    reads, writes = touched([call.command])
    return sorted(reads | writes)


def _lacked_room(call: Call) -> bool:
    """Whether a command changed nothing because its result would have been too large beside others of its frame."""
    too_large = call.result is not None and call.result[0] == Outcome.TOO_LARGE
    return too_large and call.command.operation != Operation.APPEND


def _groups(calls: Iterable[Call]) -> Iterator[tuple[list[bytes], list[Call]]]:
    """The groups of keys that some chain of commands connects, with their commands."""
    leaders: dict[bytes, bytes] = {}

    def find(key: bytes) -> bytes:
        while leaders.setdefault(key, key) != key:
            leaders[key] = leaders[leaders[key]]
            key = leaders[key]
        return key

    calls = [call for call in calls if not _lacked_room(call)]
    naming = [_keys_of(call, ()) for call in calls]
    every = sorted(set(chain.from_iterable(naming)))
    connected = [(call, keys) for call in calls if (keys := _keys_of(call, every))]
    for _, keys in connected:
        for key in keys[1:]:
            leaders[find(key)] = find(keys[0])
    groups: dict[bytes, tuple[set[bytes], list[Call]]] = {}
    for call, keys in connected:
        group = groups.setdefault(find(keys[0]), (set(), []))
        group[0].update(keys)
        group[1].append(call)
    for keys_of_group, calls_of_group in groups.values():
        yield sorted(keys_of_group), calls_of_group


class _Configuration(NamedTuple):
    """Commands that have had their moment: all below `base`, and `base + i` where bit i of `mask` is set."""

    base: int
    mask: int
    state: _Frozen


class _Group:
    """The commands on one group of keys, by the time of their asking."""

    def __init__(self, keys: Sequence[bytes], calls: Iterable[Call], longest: int, results: int) -> None:
        # A command that nobody was told of, and that changes nothing, explains nothing.
        relevant = [call for call in calls if call.answered is not None or not only_reads(call.command)]
        self._calls = sorted(relevant, key=lambda call: call.invoked)
        self._ends = [inf if call.answered is None else call.answered for call in self._calls]
        self._keys = keys
        self._places: Mapping[bytes, int] = {key: place for place, key in enumerate(keys)}
        self._touched = [_keys_of(call, keys) for call in self._calls]
        self._idle = [changes_nothing(call.command, call.result) for call in self._calls]
        self._needs = Needs(self._calls)
        self._longest = longest
        self._results = results

    def search(self, budget: int) -> Finding:
        """See the module."""
        first = _Configuration(0, 0, (None,) * len(self._keys))
        seen = {first}
        stack = [first]
        furthest = first
        while stack:
            configuration = stack.pop()
            candidates = self._candidates(configuration)
            if candidates is None:
                return Finding(Linearizability.LINEARIZABLE)
            if self._progress(configuration) > self._progress(furthest):
                furthest = configuration
            following = self._following(configuration, candidates)
            fresh = [after for after in following if after not in seen]
            seen.update(fresh)
            stack += fresh
            if len(seen) > budget:
                return Finding(
                    Linearizability.UNDECIDED, self._describe(furthest, f"after {budget} configurations")
                )
        return Finding(Linearizability.VIOLATION, self._describe(furthest, "in any order"))

    def _progress(self, configuration: _Configuration) -> int:
        return configuration.base + configuration.mask.bit_count()

    def _open(self, configuration: _Configuration) -> Iterator[int]:
        """The commands that have not had their moment, ascending."""
        mask = configuration.mask
        for index in range(configuration.base, len(self._calls)):
            if not mask & 1:
                yield index
            mask >>= 1

    def _candidates(self, configuration: _Configuration) -> list[int] | None:
        """The commands that may come next, latest answer first; None if all answers are explained."""
        candidates = []
        earliest_end = inf
        for index in self._open(configuration):
            if self._calls[index].invoked > earliest_end:
                break
            candidates.append(index)
            earliest_end = min(earliest_end, self._ends[index])
        if earliest_end == inf:
            return None
        candidates = [index for index in candidates if self._calls[index].invoked <= earliest_end]
        return sorted(candidates, key=lambda index: self._ends[index], reverse=True)

    def _following(self, configuration: _Configuration, candidates: Sequence[int]) -> list[_Configuration]:
        """What the candidates lead to, the most promising last; only one if that is never worse."""
        found = []
        for index in candidates:
            state = self._after(index, configuration.state)
            if state is None:
                continue
            following = self._with(configuration, index, state)
            if state != configuration.state:
                if self._is_hopeful(configuration.state, index, following):
                    found.append(following)
            elif self._idle[index]:
                return [following]
            elif self._ends[index] < inf:
                found.append(following)
        return found

    def _is_hopeful(self, before: _Frozen, index: int, following: _Configuration) -> bool:
        """Whether all values that answers tell of can still come, after the command `index`."""
        base, mask, state = following
        changed = [
            (key, value)
            for key, value, after in zip(self._keys, before, state, strict=True)
            if value != after
        ]
        values = dict(zip(self._keys, state, strict=True))
        return self._needs.met(
            index, changed, values, lambda other: other >= base and not mask >> (other - base) & 1
        )

    def _after(self, index: int, state: _Frozen) -> _Frozen | None:
        """The store after a command, None if its answer would have been another one."""
        call = self._calls[index]
        places = [(key, self._places[key]) for key in self._touched[index]]
        store: State = {key: value for key, place in places if (value := state[place]) is not None}
        result = execute(store, call.command, self._longest, results=self._results)
        if call.answered is not None and result != call.result:
            return None
        after = list(state)
        for key, place in places:
            after[place] = store.get(key)
        return tuple(after)

    def _with(self, configuration: _Configuration, index: int, state: _Frozen) -> _Configuration:
        base, mask = configuration.base, configuration.mask | 1 << (index - configuration.base)
        while mask & 1:
            base += 1
            mask >>= 1
        return _Configuration(base, mask, state)

    def _describe(self, furthest: _Configuration, how: str) -> str:
        stuck = [self._calls[index] for index in self._open(furthest)]
        shown = "; ".join(f"{call} {call.command} -> {call.result}" for call in stuck[:5])
        values = dict(zip(self._keys, furthest.state, strict=True))
        return f"{self._progress(furthest)} of {len(self._calls)} commands fit {how}; then {values}, and open: {shown}"
