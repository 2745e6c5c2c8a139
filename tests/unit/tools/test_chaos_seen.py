"""What watchers were told is judged: nothing lost, nothing out of turn, and gaps excused only where they were told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from random import Random
from typing import Any

import pytest

from chaos.seen import Mark, Seen, Told, walk
from chaos.watchers import Watcher
from chaos.workload import Asker
from epaxos.client.watch import Changed, Reset, Synced
from epaxos.errors import NoAnswer
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.reference import Command, Result, State, execute
from epaxos.simulation.checkers.watching import changes_of
from epaxos.statemachine.operations import Operation, Outcome

KEY = b"chaos.1.0.a"
TEXT = b"chaos.1.0.text"
NUMBER = b"chaos.1.0.number"
RESUMED, RESET, SYNCED = Mark
EARLY, LATE = 0.0, 1000.0
"""Before all commands, and after them."""


class Rig:
    """Commands that execute in the order of asking, and watchers who are told what a test says."""

    def __init__(self, *prefixes: bytes) -> None:
        self.watchers = [Told(f"watcher {place}", prefix) for place, prefix in enumerate(prefixes or (b"",))]
        self.seen = Seen(self.watchers)
        self.state: State = {}
        self.calls: list[Call] = []
        self._clock = count(1)
        for told in self.watchers:
            told.mark(RESET, EARLY)
            told.mark(SYNCED, EARLY)

    def call(self, operation: int, key: bytes, argument: object = None, *, answer: bool = True) -> Call:
        call = Call(1, len(self.calls), Command(operation, key, argument), float(next(self._clock)))
        result: Result = execute(self.state, call.command, 1000)
        if answer:
            call.answered, call.result = float(next(self._clock)), result
        self.calls.append(call)
        return call

    def tell(self, what: Sequence[bytes | Mark | None], key: bytes = KEY, watcher: int = 0) -> None:
        told = self.watchers[watcher]
        for one in what:
            if isinstance(one, Mark):
                told.mark(one, LATE)
            else:
                self.seen.changed(told, key, one)

    def judge(self, values: dict[bytes, bytes | None] | None = None) -> list[str]:
        self.seen.recorded(1, self.calls)
        complete = self.seen.is_complete(values or {})
        self.seen.finish(values or {})
        assert complete or self.seen.wrong
        return self.seen.wrong


def test_keys_that_were_cleared_by_their_prefix(rig: Rig) -> None:
    rig.call(Operation.CLEAR, KEY[:8], [None, 1000])
    rig.call(Operation.SCAN, KEY[:8], [None, 1000, True, False])
    rig.tell([b"x.1", b"x.2", b"x.3", None])
    assert rig.judge() == []


@pytest.mark.parametrize(
    ("page", "told", "wrong"),
    [
        ([None, 1000], {KEY: [b"x.1", None], TEXT: [b"x.2", None]}, 0),
        ([None, 1000], {KEY: [b"x.1"], TEXT: [b"x.2", None]}, 1),
        ([None, 1000], {KEY: [b"x.1", None], TEXT: [b"x.2"]}, 1),
        ([None, 1], {KEY: [b"x.1", None], TEXT: [b"x.2"]}, 0),
        ([None, 1], {KEY: [b"x.1"], TEXT: [b"x.2", None]}, 1),
        ([None, 1], {KEY: [b"x.1", None], TEXT: [b"x.2", None]}, 1),
        ([KEY, 1000], {KEY: [b"x.1"], TEXT: [b"x.2", None]}, 0),
        ([KEY, 1000], {KEY: [b"x.1", None], TEXT: [b"x.2"]}, 1),
        ([TEXT, 1000], {KEY: [b"x.1"], TEXT: [b"x.2"]}, 0),
        ([TEXT, 1000], {KEY: [b"x.1"], TEXT: [b"x.2", None]}, 1),
    ],
)
@pytest.mark.parametrize("gap", [[], [RESUMED]])
def test_answer_of_a_clear_says_which_keys_went(
    page: list[object], told: dict[bytes, list[bytes | None]], wrong: int, gap: list[Mark]
) -> None:
    made = Rig()
    made.call(Operation.WRITE, KEY, b"x.1")
    made.call(Operation.WRITE, TEXT, b"x.2")
    made.call(Operation.CLEAR, KEY[:8], page)
    for key, values in told.items():
        made.tell([*(values[:1] if gap else []), *gap, *values], key)
    assert bool(made.judge()) == wrong


def test_clear_without_an_answer_may_be_seen_or_not() -> None:
    for told in ([b"x.1"], [b"x.1", None]):
        made = Rig()
        made.call(Operation.WRITE, KEY, b"x.1")
        made.call(Operation.CLEAR, KEY[:8], [None, 1000], answer=False)
        made.tell(told)
        assert made.judge() == []


def test_keys_that_went_without_a_command(rig: Rig) -> None:
    rig.call(Operation.CLEAR, b"chaos.2.", [None, 1000])
    rig.tell([b"x.1", b"x.2", b"x.3", None])
    assert rig.judge()


@pytest.fixture
def rig() -> Rig:
    """A key that was given three values."""
    made = Rig()
    for value in (b"x.1", b"x.2", b"x.3"):
        made.call(Operation.WRITE, KEY, value)
    return made


@pytest.mark.parametrize(
    "told",
    [
        [b"x.1", b"x.2", b"x.3"],
        [b"x.1", b"x.2", RESUMED, b"x.2", b"x.3"],
        [b"x.1", RESUMED, RESUMED, b"x.1", b"x.2", RESUMED, b"x.3"],
    ],
)
def test_all_in_order_and_again_only_after_a_resume(rig: Rig, told: list[bytes | Mark]) -> None:
    rig.tell(told)
    assert rig.judge() == []
    assert rig.seen.totals["keys"] == 1
    assert rig.seen.totals["resumes"] == told.count(RESUMED)
    assert rig.seen.totals["excused"] == rig.seen.totals["gaps"] == 0


@pytest.mark.parametrize(
    "told",
    [
        [],
        [b"x.1", b"x.3"],
        [b"x.1", b"x.2"],
        [b"x.2", b"x.3"],
        [b"x.1", b"x.3", b"x.2"],
        [b"x.1", b"x.2", b"x.2", b"x.3"],
        [b"x.1", RESUMED, b"x.3"],
        [b"x.1", b"x.2", b"x.3", None],
        [b"x.1", b"x.2", b"x.3", b"never written"],
    ],
)
def test_what_is_lost_or_out_of_turn_is_found(rig: Rig, told: list[bytes | Mark | None]) -> None:
    rig.tell(told)
    assert rig.judge()


@pytest.mark.parametrize("told", [[b"x.1", b"x.3"], [b"x.1", b"x.2"], [b"x.1", b"x.2", b"x.2", b"x.3"]])
def test_one_watcher_is_judged_by_what_another_was_told(told: list[bytes]) -> None:
    made = Rig(b"", b"chaos.")
    for value in (b"x.1", b"x.2", b"x.3"):
        made.call(Operation.WRITE, KEY, value, answer=value != b"x.2")
    made.tell([b"x.1", b"x.2", b"x.3"])
    made.tell(told, watcher=1)
    (wrong,) = made.judge()
    assert wrong.startswith("watcher 1, chaos.1.0.a")


@pytest.mark.parametrize(
    "told",
    [
        [b"x.1", RESET, b"x.3", SYNCED],
        [b"x.1", RESET, b"x.2", SYNCED, b"x.3"],
        [RESET, b"x.1", RESUMED, b"x.2", SYNCED, b"x.3"],
        [b"x.1", b"x.2", RESET, RESET, b"x.2", b"x.3", SYNCED],
    ],
)
def test_gap_that_was_told_excuses_what_lies_in_it(told: list[bytes | Mark]) -> None:
    made = Rig(b"", b"chaos.1")
    for value in (b"x.1", b"x.2", b"x.3"):
        made.call(Operation.WRITE, KEY, value)
    made.tell([b"x.1", b"x.2", b"x.3"])
    made.tell(told, watcher=1)
    assert made.judge() == []
    assert made.seen.totals["gaps"] == told.count(RESET)
    assert made.seen.totals["excused"] == 0


@pytest.mark.parametrize(
    "told",
    [
        [b"x.1", b"x.2", RESET, b"x.1", SYNCED, b"x.2", b"x.3"],
        [b"x.1", RESET, SYNCED, b"x.2", b"x.3"],
        [b"x.1", RESET, b"x.2", SYNCED],
        [b"x.1", RESET, b"x.3"],
    ],
)
def test_state_after_a_gap_is_neither_old_nor_wrong_nor_the_end(told: list[bytes | Mark]) -> None:
    made = Rig(b"", b"chaos.1")
    for value in (b"x.1", b"x.2", b"x.3"):
        made.call(Operation.WRITE, KEY, value)
    made.tell([b"x.1", b"x.2", b"x.3"])
    made.tell(told, watcher=1)
    assert len(made.judge()) == 1


def test_where_all_have_a_gap_what_came_before_it_is_judged(rig: Rig) -> None:
    rig.tell([b"x.1", RESET, b"x.3", SYNCED])
    assert rig.judge() == []
    assert rig.seen.totals["excused"] == 1
    other = Rig()
    other.call(Operation.WRITE, KEY, b"x.1")
    other.tell([b"never written", RESET, b"x.1", SYNCED])
    assert other.judge() == ["watcher 0, chaos.1.0.a: no command made b'never written' of None"]


def test_commands_without_an_answer_may_be_seen_or_not() -> None:
    for told in ([b"x.1"], [b"x.1", b"x.2"], [b"x.1", b"x.2", None]):
        made = Rig()
        made.call(Operation.WRITE, KEY, b"x.1")
        made.call(Operation.WRITE, KEY, b"x.2", answer=False)
        made.call(Operation.DELETE, KEY, answer=False)
        made.tell(told)
        assert made.judge() == []


def test_each_operation_explains_its_change_and_no_other() -> None:
    made = Rig()
    made.call(Operation.WRITEREAD, KEY, b"x.1")
    made.call(Operation.CAS, KEY, [b"x.1", b"x.2"])
    made.call(Operation.CAS, KEY, [b"x.1", b"x.9"])
    made.call(Operation.DELETE, KEY)
    made.call(Operation.DELETE, KEY)
    parts = [
        [Operation.WRITE, Operation.APPEND, Operation.READ],
        [TEXT, TEXT, KEY],
        [b"x.3", b"+x.4", None],
    ]
    made.call(Operation.MULTI, b"", parts)
    made.call(Operation.APPEND, TEXT, b"+x.5")
    for amount in (1, 2, -1, -1):
        made.call(Operation.INCREMENT, NUMBER, amount)
    made.tell([b"x.1", b"x.2", None])
    made.tell([b"x.3", b"x.3+x.4", b"x.3+x.4+x.5"], TEXT)
    made.tell([b"1", b"3", b"2", b"1"], NUMBER)
    assert made.judge() == []
    assert made.seen.totals["keys"] == 3


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (TEXT, [b"x.3+x.5", b"x.3+x.5+x.4"]),
        (TEXT, [b"x.3", b"x.3+x.5", b"x.3+x.5+x.4"]),
        (NUMBER, [b"2", b"3", b"2"]),
        (NUMBER, [b"1", b"3"]),
        (NUMBER, [b"1", b"3", b"2", b"1"]),
    ],
)
def test_order_that_no_answer_allows_is_found(key: bytes, told: list[bytes]) -> None:
    made = Rig()
    made.call(Operation.WRITE, TEXT, b"x.3")
    made.call(Operation.APPEND, TEXT, b"+x.4")
    made.call(Operation.APPEND, TEXT, b"+x.5")
    for amount in (1, 2, -1):
        made.call(Operation.INCREMENT, NUMBER, amount)
    right = {TEXT: [b"x.3", b"x.3+x.4", b"x.3+x.4+x.5"], NUMBER: [b"1", b"3", b"2"]}
    for one, values in (right | {key: told}).items():
        made.tell(values, one)
    assert len(made.judge()) == 1


@pytest.mark.parametrize("gap", [[], [RESET, b"2", SYNCED]])
@pytest.mark.parametrize(
    "told",
    [
        [b"1", b"3", b"2"],
        [b"1", b"3", RESUMED, b"3", b"2"],
        [b"1", RESUMED, b"1", b"3", RESUMED, b"1", b"3", b"2"],
        [b"1", b"3", b"2", RESUMED, b"3", RESUMED, b"2"],
    ],
)
def test_number_may_be_told_again_too(told: list[bytes | Mark], gap: list[bytes | Mark]) -> None:
    made = Rig()
    for amount in (1, 2, -1):
        made.call(Operation.INCREMENT, NUMBER, amount)
    made.tell([*told, *gap], NUMBER)
    assert made.judge() == []
    assert made.seen.totals["excused"] == bool(gap)


def test_order_against_the_times_of_answers_is_found(rig: Rig) -> None:
    rig.tell([b"x.2", b"x.1", b"x.3"])
    assert "comes after one that was asked when it had been answered" in rig.judge()[0]


def test_epoch_waits_for_whoever_lags_and_is_forgotten_then(rig: Rig) -> None:
    rig.tell([b"x.1"])
    rig.seen.recorded(1, rig.calls)
    assert not rig.seen.is_complete({})
    rig.tell([b"x.2", b"x.3"])
    assert rig.seen.is_complete({})
    assert not rig.watchers[0].parts
    rig.tell([b"late, by a command that nobody waits for"])
    rig.seen.finish({})
    assert rig.seen.wrong == []


def test_key_that_nobody_wrote_is_found(rig: Rig) -> None:
    rig.tell([b"x.1", b"x.2", b"x.3"])
    rig.tell([b"x.1"], b"chaos.1.0.b")
    rig.tell([b"x.1"], b"chaos.7.0.b")
    assert len(rig.judge()) == 2


def test_walk_takes_every_way_that_a_deleted_key_allows() -> None:
    told = Told("watcher", b"")
    for mark in (RESET, SYNCED, RESET, SYNCED):
        told.mark(mark, EARLY)
    told.add(1, KEY, b"b")
    assert walk((b"a", None, b"b"), told.marks, told.of(1, KEY), 2).end
    assert walk((b"b",), told.marks, told.of(1, KEY), 2).end
    assert not walk((b"a", b"b"), told.marks, told.of(1, KEY), 2).end
    assert not walk((b"a", None, b"b", None), told.marks, told.of(1, KEY), 2).end
    assert walk((b"a", None, b"b"), told.marks, told.of(1, KEY), 4).wrong


COUNTER, MARKS = b"ledger.4.0", b"ledger.4.text.0"
ENDS: dict[bytes, bytes | None] = {COUNTER: b"3", MARKS: b"0;1;"}


@pytest.mark.parametrize(
    ("counter", "marks"),
    [
        ([b"1", b"2", b"3"], [b"0;", b"0;1;"]),
        ([b"1", b"2", RESUMED, b"2", b"3"], [b"0;", b"0;1;"]),
        ([b"1", RESET, b"3"], [b"0;1;", SYNCED]),
        ([], [RESET, SYNCED, b"0;", RESUMED, b"0;", b"0;1;"]),
    ],
)
def test_ledger_counts_one_by_one(counter: list[bytes | Mark], marks: list[bytes | Mark]) -> None:
    made = Rig(b"ledger.")
    ends = ENDS if counter else {MARKS: ENDS[MARKS]}
    made.tell(counter, COUNTER)
    made.tell(marks, MARKS)
    assert made.judge(ends) == []
    assert made.seen.totals["keys"] == len(ends)


@pytest.mark.parametrize(
    ("counter", "marks"),
    [
        ([b"1", b"3"], [b"0;", b"0;1;"]),
        ([b"1", b"2"], [b"0;", b"0;1;"]),
        ([b"1", b"2", b"3"], [b"0;"]),
        ([b"1", b"2", b"3"], [b"0;", b"1;0;"]),
        ([b"1", b"2", b"2", b"3"], [b"0;", b"0;1;"]),
        ([b"1", RESUMED, b"3"], [b"0;", b"0;1;"]),
        ([b"1", b"2", RESET, b"1", b"2", b"3"], [b"0;1;", SYNCED]),
        ([b"1", b"2", b"3", RESET], [b"0;1;", SYNCED]),
        ([b"1", b"2", b"3", None], [b"0;", b"0;1;"]),
    ],
)
def test_ledger_that_skips_goes_back_or_stays_behind_is_found(
    counter: list[bytes | Mark | None], marks: list[bytes | Mark]
) -> None:
    made = Rig(b"ledger.")
    made.tell(counter, COUNTER)
    made.tell(marks, MARKS)
    assert made.judge(ENDS)


def test_results_that_are_none_are_no_causes() -> None:
    made = Rig()
    made.call(Operation.WRITE, KEY, b"word")
    failed = made.call(Operation.INCREMENT, KEY, 1)
    assert failed.result == (Outcome.NOT_A_NUMBER, None)
    made.tell([b"word"])
    assert made.judge() == []


class Drawn:
    """What concurrent clients asked, as `tools/chaos` draws it, and what it made of each key."""

    def __init__(self, chance: Random, commands: int = 120) -> None:
        self.calls: list[Call] = []
        self.chains: dict[bytes, list[bytes | None]] = {}
        state: State = {}
        askers = [Asker(chance, client) for client in range(5)]
        for number in range(commands):
            asker = chance.choice(askers)
            op = asker.draw(1)
            executed = float(number + 100)
            call = Call(1, number, Command(*op[:3]), executed - chance.uniform(0, 20))
            before = dict(state)
            result = execute(state, call.command, 10_000)
            if result[0] == Outcome.ABORTED:
                continue
            if chance.random() < 0.9:
                call.answered, call.result = executed + chance.uniform(0, 20), result
            elif chance.random() < 0.5:  # nor did it execute
                state = before
            self.calls.append(call)
            if state != before or op.operation != Operation.READ:
                self._note(before, state, call.command, result)

    def _note(self, before: State, after: State, command: Command, result: Result) -> None:
        if after == before:
            return
        for key, value in changes_of(before, after, command, result, 10_000, (1, 1)):
            self.chains.setdefault(key, []).append(value)


def tell_all(chance: Random, made: Rig, chains: dict[bytes, list[bytes | None]], watcher: int) -> None:
    """Tell a watcher of all that it watches, with resumes, and the last one with a gap."""
    told = {key: 0 for key in chains if key.startswith(made.watchers[watcher].prefix)}
    is_missing = watcher == 3
    while any(place < len(chains[key]) for key, place in told.items()):
        for key, place in told.items():
            told[key] = chance.randint(place, min(len(chains[key]), place + 4))
            made.tell(chains[key][place : told[key]], key, watcher)
        if chance.random() < 0.3:
            made.tell([RESUMED], watcher=watcher)
            told = {key: max(0, place - chance.randint(0, 2)) for key, place in told.items()}
        elif is_missing and chance.random() < 0.5:
            is_missing = False
            made.tell([RESET], watcher=watcher)
            for key, place in told.items():
                told[key] = chance.randint(place, len(chains[key]))
                if told[key] and (value := chains[key][told[key] - 1]) is not None:
                    made.tell([value], key, watcher)
            made.tell([SYNCED], watcher=watcher)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_in_order_is_right_and_a_change_that_lacks_is_missed(seed: int) -> None:
    chance = Random(seed)
    drawn = Drawn(chance)
    made, other = Rig(b"", b"chaos.1.0", b"chaos.", b""), Rig(b"", b"")
    made.calls = other.calls = drawn.calls
    key = max(drawn.chains, key=lambda key: len(drawn.chains[key]))
    place = chance.randrange(len(drawn.chains[key]))
    for one, chain in drawn.chains.items():
        made.tell(chain, one)
        other.tell(chain, one)
        other.tell(chain[:place] + chain[place + 1 :] if one == key else chain, one, 1)
    for watcher in (1, 2, 3):
        tell_all(chance, made, drawn.chains, watcher)
    assert made.judge() == []
    assert made.seen.totals["excused"] == 0
    assert other.judge()


class Scripted:
    """A client whose watches yield what is left of a script; with a number the library has gone on so often."""

    def __init__(self, *script: object) -> None:
        self.script = list(script)
        self.asked: list[object] = []
        self.resumes = 0
        self.position: str | None = None

    def watch(self, prefix: bytes, *, since: str | None, state: bool) -> Scripted:
        assert state
        self.asked.append((prefix, since))
        self.resumes = 0
        return self

    def close(self) -> None:
        self.asked.append("close")

    async def get(self, timeout: float) -> object:  # noqa: ASYNC109 - that of a watch
        if not self.script:
            raise asyncio.CancelledError
        if isinstance(self.script[0], int):
            self.resumes = self.script.pop(0)  # type: ignore[assignment]
        event = self.script.pop(0)
        if isinstance(event, Exception):
            raise event
        if event is not None:
            self.position = "here" if getattr(event, "position", None) is not None else None
        assert timeout in {0, 1}
        return event


def test_watcher_notes_what_it_goes_through_and_goes_on_from_where_it_was() -> None:
    here: Any = object()
    client = Scripted(
        Reset(),
        Changed(KEY, b"a", None),
        None,
        NoAnswer("nobody"),
        Synced(here),
        None,
        2,
        Changed(KEY, b"b", here),
        Reset(),
        Synced(here),
    )
    watcher = Watcher(0, Random(1), ["alpha"])
    seen = Seen([watcher.told])

    async def body() -> None:
        with suppress(asyncio.CancelledError):
            await watcher.follow({"alpha": client}, seen, 0.0)  # type: ignore[dict-item]

    asyncio.run(body())
    told = watcher.told
    assert told.marks == [RESET, SYNCED, *[RESUMED] * 4, RESET, SYNCED, RESUMED]
    assert told.counts == Counter(changes=2, resumes=5, gaps=1, silences=1)
    assert client.asked[:3] == [(told.prefix, None), "close", (told.prefix, "here")]
