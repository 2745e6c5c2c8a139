"""One replica's watchers, over a state machine of its own: instances are executed by hand."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from epaxos.errors import FrameError
from epaxos.protocol.ids import InstanceId
from epaxos.statemachine.batch import Batch, Limits, make_payload
from epaxos.statemachine.expiry import Generation
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import RECORDS, Operation
from epaxos.watching import history as history_module
from epaxos.watching import watchers as module
from epaxos.watching.position import Position, read_position
from epaxos.watching.watchers import KEEP, Answer, Poll, Watchers, read_poll

LIMITS = Limits(key=64, value=1000, pause=0)


class Replica:
    """A state machine with its watchers; every command is an instance of the first row, unless it says otherwise."""

    def __init__(self, history: int = 10**6, *, name: int = 1, always: bool = False) -> None:
        self.machine = StateMachine(LIMITS, lambda _: None)
        self.watchers = Watchers(name, history, 10**6, always=always)
        self.watchers.begin(self.machine, 0, 2, (-1, -1), [])
        self._numbers = count(1)
        self._slots = [count(), count()]
        self.now = 0.0

    def run(self, *commands: tuple[int, bytes, Any], row: int = 0, client: int = 5) -> InstanceId:
        """Execute some commands as one instance."""
        operations = bytes(operation for operation, _, _ in commands)
        first = next(self._numbers) * 100
        batch = Batch(
            client, first, 0, operations, [key for _, key, _ in commands], [a for *_, a in commands]
        )
        place = InstanceId(row, next(self._slots[row]))
        self.machine.apply(make_payload([batch]))
        self.watchers.history.executed(place)
        self.watchers.poll(self.now)
        return place

    def put(self, key: bytes, value: bytes, row: int = 0) -> InstanceId:
        return self.run((Operation.WRITE, key, value), row=row)

    def skip(self, row: int = 0) -> None:
        """A no-op executes."""
        self.watchers.history.executed(InstanceId(row, next(self._slots[row])))
        self.watchers.poll(self.now)

    def ask(self, name: object = "a", prefix: bytes = b"", **options: Any) -> list[Answer]:
        """Ask; what comes stands in the list, at once or later."""
        told: list[Answer] = []
        self.watchers.ask(name, Poll(prefix, **options), self.now, told.append)
        return told

    def since(self) -> Position:
        (told,) = self.ask("now")
        return read_position(told["position"])


def keeps(replica: Replica) -> bool:
    return replica.watchers.history.records


def pairs(answer: Answer) -> list[tuple[bytes, bytes | None]]:
    return list(zip(answer["keys"], answer["values"], strict=True))


def after(answer: Answer) -> dict[str, Any]:
    """The options of who goes on from an answer."""
    return {"since": read_position(answer["position"]), "cursor": tuple(answer["cursor"])}


def test_who_waits_is_told_what_executes_and_where_it_is_then() -> None:
    replica = Replica()
    (start,) = replica.ask()
    assert start["keys"] == []
    told = replica.ask(**after(start))
    assert told == []
    replica.put(b"k", b"1")
    assert pairs(told[0]) == [(b"k", b"1")]
    replica.put(b"k", b"2")
    replica.put(b"j", b"3")
    (more,) = replica.ask(**after(told[0]))
    assert pairs(more) == [(b"k", b"2"), (b"j", b"3")]
    assert read_position(more["position"]) == Position(0, ((0, 3), ()))


def test_only_keys_with_the_prefix_are_told_and_the_position_moves_all_the_same() -> None:
    replica = Replica()
    (start,) = replica.ask(prefix=b"a/")
    replica.put(b"b/1", b"x")
    replica.put(b"a/1", b"y")
    replica.put(b"a", b"z")
    replica.skip(row=1)
    (told,) = replica.ask(prefix=b"a/", **after(start))
    assert pairs(told) == [(b"a/1", b"y")]
    assert read_position(told["position"]) == replica.since() == Position(0, ((0, 3), (0, 1)))


def test_whoever_has_waited_long_enough_is_told_its_position() -> None:
    replica = Replica()
    (start,) = replica.ask(prefix=b"a")
    told = replica.ask(prefix=b"a", wait=1.0, **after(start))
    replica.put(b"b", b"x")
    assert told == []
    assert replica.watchers.deadline == 1.0
    replica.watchers.poll(1.0)
    assert pairs(told[0]) == []
    assert read_position(told[0]["position"]) == Position(0, ((0, 1), ()))


CHANGES: list[tuple[str, list[tuple[int, bytes, Any]], list[tuple[bytes, bytes | None]]]] = [
    ("write again", [(Operation.WRITE, b"k", b"1")], [(b"k", b"1")]),
    ("writeread", [(Operation.WRITEREAD, b"k", b"2")], [(b"k", b"2")]),
    ("delete", [(Operation.DELETE, b"k", None)], [(b"k", None)]),
    ("delete of nothing", [(Operation.DELETE, b"x", None)], []),
    ("read", [(Operation.READ, b"k", None)], []),
    ("increment", [(Operation.INCREMENT, b"k", 2)], [(b"k", b"3")]),
    ("increment of no number", [(Operation.INCREMENT, b"t", 2)], []),
    ("append", [(Operation.APPEND, b"k", b"0")], [(b"k", b"10")]),
    ("cas", [(Operation.CAS, b"k", [b"1", b"5"])], [(b"k", b"5")]),
    ("cas that fails", [(Operation.CAS, b"k", [b"2", b"5"])], []),
    ("cas that removes", [(Operation.CAS, b"k", [b"1", None])], [(b"k", None)]),
    ("with a time", [(Operation.SETEX, b"k", [b"1", 5])], [(b"k", b"1")]),
    ("a time alone", [(Operation.SETTTL, b"k", 5)], []),
    (
        "multi",
        [(Operation.MULTI, b"", [bytes((2, 6)), [b"k", b"k"], [b"7", 1]])],
        [(b"k", b"7"), (b"k", b"8")],
    ),
    ("multi that fails", [(Operation.MULTI, b"", [bytes((2, 5)), [b"k", b"t"], [b"7", [b"x", b"y"]]])], []),
    ("clear", [(Operation.CLEAR, b"", [None, 10])], [(b"k", None), (b"t", None)]),
    (
        "several",
        [(Operation.WRITE, b"a", b"1"), (Operation.READ, b"a", None), (Operation.DELETE, b"a", None)],
        [(b"a", b"1"), (b"a", None)],
    ),
]


@pytest.mark.parametrize(
    ("commands", "expected"), [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES]
)
def test_what_a_command_changes(commands: list[Any], expected: list[Any]) -> None:
    replica = Replica()
    replica.run((Operation.WRITE, b"k", b"1"), (Operation.WRITE, b"t", b"text"))
    (start,) = replica.ask()
    replica.run(*commands)
    (told,) = replica.ask(wait=0.0, **after(start))
    assert pairs(told) == expected


def test_what_ends_is_told() -> None:
    replica = Replica()
    place = replica.run((Operation.SETEX, b"k", [b"1", 5]))
    (start,) = replica.ask()
    replica.run((Operation.EXPIRE, b"k", [*Generation(5, 100, 0)]), client=0)
    (told,) = replica.ask(**after(start))
    assert pairs(told) == [(b"k", None)]
    assert place == InstanceId(0, 0)


def test_results_are_those_of_one_that_keeps_nothing() -> None:
    """They must not depend on who watches, or replicas differ for ever."""
    plain, watched = Replica(), Replica(always=True)
    for _, commands, _ in CHANGES:
        operations = bytes(operation for operation, _, _ in commands)
        batch = Batch(7, 1, 0, operations, [key for _, key, _ in commands], [a for *_, a in commands])
        payload = make_payload([batch])
        payload.heads.clients[0] = len(commands) * 1000 + operations[0]
        assert plain.machine.apply(payload) == watched.machine.apply(payload)
    assert plain.machine.digest_source().hexdigest() == watched.machine.digest_source().hexdigest()


def test_an_instance_in_two_parts_is_told_again_elsewhere() -> None:
    replica = Replica()
    (start,) = replica.ask()
    replica.put(b"j", b"0")
    replica.run((Operation.WRITE, b"k0", b"1" * 900), (Operation.WRITE, b"k1", b"2" * 900))
    (first,) = replica.ask(most=1100, **after(start))
    assert [key for key, _ in pairs(first)] == [b"j"]
    (second,) = replica.ask(most=1, **after(first))
    assert [key for key, _ in pairs(second)] == [b"k0"]
    assert second["position"] == first["position"]
    (third,) = replica.ask(most=1, **after(second))
    assert [key for key, _ in pairs(third)] == [b"k1"]
    (again,) = replica.ask(since=read_position(second["position"]))
    assert [key for key, _ in pairs(again)] == [b"k0", b"k1"]
    assert again["position"] == third["position"]


def test_who_comes_from_another_replica_is_told_what_it_does_not_know() -> None:
    """The two have executed what does not conflict in different orders."""
    first, second = Replica(name=1, always=True), Replica(name=2, always=True)
    first.put(b"a", b"1", row=0)
    second.put(b"b", b"2", row=1)
    (told,) = first.ask(since=Position(0, ((), ())))
    assert pairs(told) == [(b"a", b"1")]
    second.put(b"a", b"1", row=0)
    (more,) = second.ask(**after(told))
    assert pairs(more) == [(b"b", b"2")]
    assert read_position(more["position"]) == Position(0, ((0, 1), (0, 1)))


def test_what_is_not_kept_is_told() -> None:
    replica = Replica(history=2000)
    (start,) = replica.ask()
    for number in range(20):
        replica.put(b"k", b"%d" % number)
    (told,) = replica.ask(**after(start))
    assert "compacted" in told
    assert replica.watchers.history.weight <= 2000
    # One who knows of all that has been dropped goes on.
    (told,) = replica.ask(since=Position(0, ((0, 19), ())))
    assert pairs(told) == [(b"k", b"19")]


def test_one_instance_that_is_too_much_is_a_gap_and_costs_no_memory() -> None:
    replica = Replica(history=3000)
    replica.put(b"k", b"x" * 900)
    (start,) = replica.ask()
    replica.run(*[(Operation.APPEND, b"k", b"y")] * 50)
    assert replica.watchers.history.weight == 0
    (told,) = replica.ask(**after(start))
    assert "compacted" in told


def test_nothing_is_kept_while_nobody_watches() -> None:
    replica = Replica()
    replica.put(b"k", b"1")
    assert not keeps(replica)
    assert replica.watchers.deadline == float("inf")
    (told,) = replica.ask(since=Position(0, ((), ())))
    assert "compacted" in told
    (start,) = replica.ask()
    assert keeps(replica)
    replica.put(b"k", b"2")
    replica.now = KEEP + 1
    replica.watchers.poll(replica.now)
    assert not keeps(replica)
    assert replica.watchers.deadline == float("inf")
    (told,) = replica.ask(**after(start))
    assert "compacted" in told


def test_who_has_to_leave_its_replica_goes_on_at_one_that_was_told_that_somebody_watches() -> None:
    first, second = Replica(), Replica(name=2)
    (start,) = first.ask()
    assert first.watchers.watched
    second.watchers.heed(0.0)
    assert not second.watchers.watched  # or all would go on saying so to one another for ever
    for replica in (first, second):
        replica.put(b"k", b"1")
    (told,) = first.ask(**after(start))
    for value in (b"2", b"3"):
        second.put(b"k", value)
    (more,) = second.ask(since=after(told)["since"])
    assert pairs(more) == [(b"k", b"2"), (b"k", b"3")]


def test_a_replica_keeps_changes_for_as_long_as_somebody_watches_elsewhere() -> None:
    replica = Replica()
    for replica.now in (0.0, KEEP - 1, KEEP + 1):
        replica.watchers.heed(replica.now)
        replica.put(b"k", b"1")
        assert keeps(replica)
    for now, kept in ((2 * KEEP, True), (2 * KEEP + 40, False)):
        assert replica.watchers.deadline <= now
        replica.watchers.poll(now)
        assert keeps(replica) == kept
    assert replica.watchers.deadline == float("inf")


def test_a_restart_and_a_peers_checkpoint_are_gaps() -> None:
    replica = Replica(always=True)
    (start,) = replica.ask()
    told = replica.ask(**after(start))
    replica.watchers.history.adopted((4, -1), [InstanceId(1, 3)])
    replica.watchers.poll(0.0)
    assert "compacted" in told[0]
    (after_it,) = replica.ask(since=Position(0, ((0, 5), (3, 4))), wait=0.0)
    assert pairs(after_it) == []
    replica.watchers.begin(replica.machine, 0, 2, (5, -1), [])
    assert "compacted" in replica.ask(since=Position(0, ((0, 5), (3, 4))))[0]


def test_the_state_comes_first_and_is_that_of_the_position() -> None:
    replica = Replica()
    for number in range(5):
        replica.put(b"k%d" % number, b"x" * 300)
    replica.put(RECORDS + bytes(16), b"own")
    (told,) = replica.ask(prefix=b"k", state=True, most=700)
    keys, values, more = told["state"]
    assert (keys, values, more) == ([b"k0", b"k1"], [b"x" * 300] * 2, True)
    # Of what changes meanwhile that is told which the next pages do not hold.
    replica.put(b"k1", b"new")
    replica.put(b"k4", b"newer")
    (told,) = replica.ask(prefix=b"k", state=True, after=b"k1", **after(told))
    keys, values, more = told["state"]
    assert pairs(told) == [(b"k1", b"new")]
    assert (keys, values, more) == ([b"k2", b"k3", b"k4"], [b"x" * 300, b"x" * 300, b"newer"], False)
    (told,) = replica.ask(prefix=b"k", wait=0.0, **after(told))
    assert pairs(told) == []


def test_no_state_before_what_was_seen_elsewhere_has_executed_nor_while_another_is_merged() -> None:
    replica = Replica()
    told = replica.ask(state=True, since=Position(0, ((0, 1), ())), wait=1.0)
    assert told == []
    replica.put(b"k", b"1")
    assert told[0]["state"] == [[b"k"], [b"1"], False]
    replica.watchers.steady = lambda: False
    told = replica.ask(state=True, wait=1.0)
    replica.watchers.poll(0.5)
    assert told == []
    replica.watchers.poll(1.0)
    assert "behind" in told[0]


def test_no_state_before_the_keys_are_in_order() -> None:
    replica = Replica()
    replica.machine.order._pace = 1
    for number in range(30):
        replica.put(b"k%02d" % number, b"1")
    told, late = replica.ask("a", state=True, wait=5.0), replica.ask("b", state=True, wait=1.0)
    replica.watchers.poll(1.0)
    assert (told, late) == ([], [{"behind": "the keys are being put in order here"}])
    while not replica.machine.order.step():
        pass
    replica.watchers.poll(2.0)
    assert len(told[0]["state"][0]) == 30


def test_another_epoch_goes_on_where_the_last_has_ended() -> None:
    replica = Replica()
    (start,) = replica.ask()
    replica.put(b"k", b"1")
    replica.watchers.history.turned(2, (0, -1))
    replica.watchers.history.executed(InstanceId(1, 0))
    (told,) = replica.ask(**after(start))
    assert pairs(told) == [(b"k", b"1")]
    assert read_position(told["position"]) == Position(1, ((), (0, 1)))
    assert replica.watchers.history.reaches(Position(1, ((), ())))
    # Who was in a later epoch knows all of this one; who was at its end in the one before, too.
    fresh = Replica(always=True)
    fresh.put(b"k", b"1")
    fresh.watchers.history.turned(2, (0, -1))
    fresh.watchers.history.record()
    fresh.watchers.history.adopted((-1, -1), [])
    assert fresh.watchers.history.reaches(Position(0, ((0, 1), ())))
    assert not fresh.watchers.history.reaches(Position(0, ((), ())))
    assert fresh.watchers.history.reaches(Position(2, ((),)))


def test_a_slow_watcher_fills_no_memory_and_many_are_answered_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    replica = Replica()
    starts = [replica.ask(name) for name in range(5)]
    assert list(map(len, starts)) == [1, 1, 1, 0, 0]
    assert replica.watchers.deadline == -float("inf")
    replica.watchers.poll(0.0)
    assert list(map(len, starts)) == [1] * 5
    told = [replica.ask(name, **after(start[0])) for name, start in enumerate(starts)]
    replica.watchers.poll(0.0)
    replica.put(b"k", b"1")
    assert sum(map(len, told)) == 3
    assert replica.watchers.deadline == -float("inf")
    replica.watchers.poll(0.0)
    assert list(map(len, told)) == [1] * 5
    assert len(replica.watchers) == 0
    for value in range(50):
        told = [replica.ask(name, **after(last[0])) if last else last for name, last in enumerate(told)]
        replica.put(b"k", b"%d" % value)
        assert len(replica.watchers._due) <= len(replica.watchers)


def test_there_may_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PREFIXES", 2)
    replica = Replica()
    assert [replica.ask(prefix=prefix)[0].keys() >= {"position"} for prefix in (b"a", b"b", b"a")] == [
        True
    ] * 3
    assert "busy" in replica.ask(prefix=b"c")[0]
    replica.now = KEEP + 1
    replica.watchers.poll(replica.now)
    assert "position" in replica.ask(prefix=b"c")[0]


def test_prefixes_have_few_lengths_and_who_is_told_so_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica()
    monkeypatch.setattr(module, "_AT_ONCE", 100)
    answers = [replica.ask(prefix=b"k" * length)[0] for length in range(module.MOST_LENGTHS + 1)]
    assert ["busy" in answer for answer in answers] == [False] * module.MOST_LENGTHS + [True]
    assert "position" in replica.ask(prefix=b"j")[0]
    monkeypatch.setattr(module, "MOST_WAITING", 0)
    assert "busy" in replica.ask(prefix=b"i")[0]
    assert replica.watchers.history.lane(b"i") is None
    assert len(replica.watchers.history.lengths) == module.MOST_LENGTHS


def test_nothing_is_recorded_for_a_question_that_is_not_taken() -> None:
    replica = Replica()
    replica.ask(since=Position(0, ((), ()), (7,)))
    replica.ask(since=Position(0, ((),)))
    assert not keeps(replica)


@pytest.mark.parametrize("rows", [((0, 1),), ((0, 1), (), (0, 9))])
def test_a_position_of_other_rows_is_refused_and_stops_nobody(rows: tuple[tuple[int, ...], ...]) -> None:
    replica = Replica()
    (start,) = replica.ask()
    replica.put(b"k", b"1", row=1)
    cursor = tuple(start["cursor"])
    assert "invalid" in replica.ask(since=Position(0, rows), cursor=cursor)[0]
    # Of an epoch that has not begun here nobody can say that, until it has.
    told = replica.ask(since=Position(1, rows), cursor=cursor, wait=9.0)
    replica.watchers.history.turned(2, (-1, 0))
    replica.put(b"k", b"2", row=1)
    assert pairs(told[0]) == [(b"k", b"2")]
    assert len(read_position(told[0]["position"]).rows) == 2
    assert "invalid" in replica.ask(since=Position(0, rows))[0]


def test_a_position_of_another_cluster_is_not_gone_on_from() -> None:
    """One that was restored, or begun anew in empty directories, gives other instances the same names."""
    replica, restored = Replica(always=True), Replica(always=True)
    replica.watchers.marks = lambda: (11, 12, 0)
    restored.watchers.marks = lambda: (21, 22, 23)
    replica.put(b"k", b"1")
    (told,) = replica.ask()
    restored.put(b"k", b"2")
    assert "compacted" in restored.ask(since=read_position(told["position"]))[0]
    assert restored.watchers.compacted == 1
    replica.watchers.marks = lambda: (0, 12, 13)
    assert "position" in replica.ask(since=read_position(told["position"]), wait=0.0)[0]


def test_a_cursor_beside_a_position_that_does_not_reach_is_of_no_use() -> None:
    replica = Replica(history=2000)
    for number in range(5):
        replica.put(b"k", b"%d" % number)
    (start,) = replica.ask()
    assert "compacted" in replica.ask(since=Position(0, ((), ())), cursor=tuple(start["cursor"]))[0]


def test_a_quiet_watcher_misses_nothing_of_what_is_dropped_beside_its_prefix() -> None:
    replica = Replica(history=2000)
    (start,) = replica.ask(prefix=b"q")
    told = replica.ask(prefix=b"q", **after(start))
    for number in range(20):
        replica.put(b"k", b"%d" % number)
    replica.watchers.poll(1.0)
    assert read_position(told[0]["position"]) == Position(0, ((0, 20), ()))
    # One that asks late, too, as long as somebody watches that; and it is told if something has gone.
    replica.put(b"q", b"x" * 700)
    replica.put(b"q", b"y" * 700)
    told = replica.ask(prefix=b"q", most=1, **after(start))
    assert pairs(told[0]) == [(b"q", b"x" * 700)]
    assert read_position(told[0]["position"]) == Position(0, ((0, 21), ()))
    for number in range(20):
        replica.put(b"k", b"%d" % number)
    assert "compacted" in replica.ask(prefix=b"q", **after(told[0]))[0]
    assert "compacted" in replica.ask(prefix=b"k", **after(start))[0]


def test_who_goes_on_late_walks_over_little_and_its_position_is_what_it_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history_module, "_APART", 4)
    monkeypatch.setattr(history_module, "_LOOKS", 6)
    replica = Replica(always=True)
    for number in range(30):
        replica.put(b"%d" % number, b"x", row=number % 2)
    history = replica.watchers.history
    assert history.start(Position(0, ((0, 7), (0, 7)))) - history.first == 14
    assert history.start(Position(0, ((0, 7), (0, 5)))) - history.first == 10
    assert history.start(Position(0, ((), ()))) == history.first
    # With a hole at the beginning all has to be looked at, a part for each answer.
    told = replica.ask(since=Position(0, ((1, 15), (0, 13))))
    known = {InstanceId(0, slot) for slot in range(1, 15)} | {InstanceId(1, slot) for slot in range(13)}
    keys = []
    for _ in range(5):
        keys += told[0]["keys"]
        position = read_position(told[0]["position"])
        known |= {InstanceId(int(key) % 2, int(key) // 2) for key in told[0]["keys"]}
        expected = {place for row in (0, 1) for place in (InstanceId(row, slot) for slot in range(20))}
        assert {place for place in expected if position.contains(0, place)} == known
        told = replica.ask(wait=0.0, **after(told[0]))
    assert keys == [b"0", b"27", b"29"]


def test_new_prefixes_wait_for_one_walk_over_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 1.0)
    replica = Replica(always=True)
    replica.put(b"a", b"1")
    replica.put(b"b", b"2")
    begin = Position(0, ((), ()))
    assert pairs(replica.ask("1", prefix=b"a", since=begin)[0]) == [(b"a", b"1")]
    told = [
        *(replica.ask("2", prefix=b"b", since=begin), replica.ask("3", prefix=b"b", since=begin, wait=0.0)),
        *(
            replica.ask("4", prefix=b"c", since=begin, wait=0.0),
            replica.ask("5", prefix=b"d", since=begin, wait=9.0),
        ),
    ]
    gone = replica.ask("6", prefix=b"e", since=begin)
    replica.ask("6", prefix=b"a", since=begin)
    replica.watchers.poll(1.5)
    assert told == [[]] * 4
    assert replica.watchers.deadline == 2.0
    replica.watchers.poll(2.0)
    assert [pairs(answers[0]) for answers in told[:3]] == [[(b"b", b"2")], [(b"b", b"2")], []]
    assert (told[3], gone, replica.watchers.history.lane(b"e")) == ([], [], None)
    replica.put(b"d", b"3")
    assert pairs(told[3][0]) == [(b"d", b"3")]
    # Whoever waits for a walk can be sent away, and made to ask again.
    told = [replica.ask("7", prefix=b"f", since=begin), replica.ask("8", prefix=b"g", since=begin)]
    replica.watchers.release()
    assert [len(answers) for answers in told] == [1, 1]
    told = [replica.ask("9", prefix=b"h", since=begin)]
    replica.watchers.send_away("it is stopping")
    assert told == [[{"away": "it is stopping"}]]
    assert len(replica.watchers) == 0


def test_many_quiet_watchers_are_told_their_position_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ENDS_AT_ONCE", 3)
    replica = Replica()
    (start,) = replica.ask()
    told = [replica.ask(name, **after(start)) for name in range(5)]
    replica.watchers.poll(1.0)
    assert sum(map(len, told)) == 3
    assert replica.watchers.deadline == 1.0
    replica.watchers.poll(1.0)
    assert sum(map(len, told)) == 5


def test_questions_that_are_over_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ENDS_AT_ONCE", 3)
    replica = Replica()
    (start,) = replica.ask()
    for _ in range(50):
        replica.ask(**after(start))
    assert len(replica.watchers) == 1
    assert len(replica.watchers._ends) <= 5


def test_who_asks_again_under_its_name_is_answered_once() -> None:
    replica = Replica()
    (start,) = replica.ask()
    first, second = replica.ask(**after(start)), replica.ask(**after(start))
    replica.put(b"k", b"1")
    assert (len(first), len(second)) == (0, 1)


def test_all_can_be_sent_elsewhere_or_made_to_ask_again() -> None:
    replica = Replica()
    (start,) = replica.ask()
    told = replica.ask(**after(start))
    replica.watchers.release()
    assert pairs(told[0]) == []
    told = replica.ask(**after(start))
    replica.watchers.send_away("it is stopping")
    assert told == [{"away": "it is stopping"}]
    replica.put(b"k", b"1")
    replica.watchers.poll(100.0)
    assert len(told) == 1


@pytest.mark.parametrize(
    "fields",
    [
        None,
        {},
        {"prefix": "text"},
        {"prefix": b"", "since": 3},
        {"prefix": b"", "wait": -1},
        {"prefix": b"", "most": "much"},
        {"prefix": b"", "state": 1},
        {"prefix": b"", "after": b"k"},
        {"prefix": b"", "cursor": [1, 2, 3]},
        {"prefix": b"", "since": [0, [[0, 1]], []], "cursor": [1, 2]},
        {"prefix": b"", "since": [0, [[0, 1]], []], "cursor": [1, 2, -3]},
        {"prefix": b"k" * 65},
        {"prefix": b"", "since": [0, [[0, 1]], []], "after": b"k" * 65},
    ],
)
def test_questions_that_are_none(fields: Any) -> None:
    with pytest.raises(FrameError, match="not a question of a watcher"):
        read_poll(fields, 64)


def test_a_question_as_it_is_sent() -> None:
    fields = {"prefix": b"k", "since": [0, [[0, 1]], []], "cursor": [1, 2, 3], "wait": 2500, "most": 5000}
    assert read_poll(fields, 64) == Poll(b"k", Position(0, ((0, 1),)), (1, 2, 3), wait=2.5, most=5000)
