"""Doors and the Replica's side of them: what is asked for comes back, once, and to whom it belongs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from epaxos.config.model import ClientConfig
from epaxos.doors.desk import Command, Desk, Full
from epaxos.doors.gate import UNTAKEN, Answered, Asked, Executed, Gate, LocalClient, Told, Unanswered
from epaxos.errors import Busy, ClientError, NoAnswer, Refused
from epaxos.statemachine.batch import make_collection
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.results import Value
from lone_replica import LoneReplica

READ, WRITE = Operation.READ, Operation.WRITE


def put(key: bytes, value: bytes) -> Command:
    return Command(WRITE, key, value)


def with_desk(
    test: Callable[[LoneReplica, Desk], Awaitable[None]], replica: LoneReplica | None = None
) -> None:
    """Run a test in a loop of its own, at the desk of a replica that runs only when it is told to."""
    there = replica or LoneReplica()

    async def run() -> None:
        desk = Desk(there.gate, there.config, there.limits)
        try:
            await test(there, desk)
        finally:
            desk.close()

    asyncio.run(run())


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Caller:
    """Takes what comes; `came` is None until then."""

    def __init__(self, desk: Desk, *commands: Command) -> None:
        self.came: Sequence[tuple[int, Value]] | ClientError | None = None
        desk.ask(commands, self._take)

    def _take(self, results: Sequence[tuple[int, Value]] | ClientError) -> None:
        assert self.came is None
        self.came = results


def test_all_that_is_asked_for_in_one_turn_is_one_instance() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        one = Caller(desk, put(b"a", b"1"), Command(READ, b"a"))
        other = Caller(desk, Command(READ, b"b"), Command(Operation.INCREMENT, b"c", 2))
        await turn()
        replica.run()
        await turn()
        assert replica.instances == [bytes((WRITE, READ, READ, Operation.INCREMENT))]
        assert one.came == [(Outcome.DONE, None), (Outcome.DONE, b"1")]
        assert other.came == [(Outcome.NOT_FOUND, None), (Outcome.DONE, 2)]

    with_desk(test)


def test_a_batch_has_no_more_commands_and_bytes_than_an_instance() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        callers = [Caller(desk, put(b"%d" % number, b"x" * 400_000)) for number in range(5)]
        callers += [Caller(desk, *[Command(READ, b"k")] * 3) for _ in range(5)]
        await turn()
        replica.run()
        await turn()
        assert list(map(len, replica.instances)) == [2, 2, 7, 9]
        assert all(isinstance(caller.came, list) for caller in callers)

    with_desk(test, LoneReplica(max_batch=9))


def test_a_batch_has_no_more_commands_on_many_keys_than_a_frame_may() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        callers = [Caller(desk, Command(Operation.COUNT, b"")) for _ in range(9)]
        callers += [Caller(desk, Command(Operation.SCAN, b"", [None, 1, False, False])) for _ in range(9)]
        await turn()
        replica.run()
        await turn()
        assert all(isinstance(caller.came, list) for caller in callers)

    with_desk(test)


def test_what_is_larger_than_a_frame_is_refused() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        caller = Caller(desk, *[put(b"k", b"x" * 1000)] * 20)
        await turn()
        assert isinstance(caller.came, Refused)
        replica.run()
        assert not replica.instances

    with_desk(test, LoneReplica(max_frame=16_384, max_value=4096))


def test_who_is_to_blame_is_refused_alone() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        fine, bad = Caller(desk, put(b"a", b"1")), Caller(desk, put(b"", b"1"))
        also = Caller(desk, put(b"b", b"2"))
        await turn()
        replica.run()
        await turn()
        replica.run()
        await turn()
        assert isinstance(bad.came, Refused)
        assert fine.came == also.came == [(Outcome.DONE, None)]

    with_desk(test)


def test_nothing_is_taken_by_a_replica_that_cannot_serve() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        replica.clients.away = "it is starting"
        with pytest.raises(Busy, match="it is starting"):
            await asyncio.gather(desk.execute(put(b"a", b"1")), run_later(replica))
        replica.clients.away = None
        assert (await asyncio.gather(desk.execute(put(b"a", b"1")), run_later(replica)))[0] == (0, None)

    with_desk(test)


def test_without_room_on_the_disk_what_grows_is_refused_alone_and_is_not_called_wrong() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        Caller(desk, put(b"a", b"1"))
        await turn()
        replica.run()
        replica.clients.full = "its disk has 0 bytes left"
        read, grows, gone = (
            Caller(desk, command)
            for command in (Command(READ, b"a"), put(b"b", b"2"), Command(Operation.DELETE, b"a"))
        )
        for _ in range(2):
            await turn()
            replica.run()
        await turn()
        assert isinstance(grows.came, Full)
        assert str(grows.came) == "only reads and deletes are taken: its disk has 0 bytes left"
        assert read.came == [(Outcome.DONE, b"1")]
        assert gone.came == [(Outcome.DONE, None)]

    with_desk(test)


def test_without_room_on_the_disk_what_has_executed_tells_what_it_came_to() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        count = Command(Operation.INCREMENT, b"a", 1)

        async def ask(session: int) -> tuple[int, Value]:
            return (await asyncio.gather(desk.execute(count, session), run_later(replica)))[0]

        first = await ask(7)
        replica.clients.full = "its disk has 0 bytes left"
        assert await ask(7) == first == (Outcome.DONE, 1)
        with pytest.raises(Full):
            await ask(8)

    with_desk(test)


async def run_later(replica: LoneReplica) -> None:
    await turn()
    replica.run()


def test_what_has_no_answer_in_time_is_given_up_and_may_have_executed() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        with pytest.raises(NoAnswer) as caught:
            await desk.execute(put(b"a", b"1"))
        assert caught.value.may_have_executed
        replica.run()
        await turn()  # nobody waits for this answer any more
        assert replica.machine.get(b"a") == b"1"

    with_desk(test, LoneReplica(client=ClientConfig(0.01, 1)))


def test_reads_of_this_replica_need_no_instance() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        Caller(desk, put(b"a", b"1"))
        await turn()
        replica.run()
        came: list[Any] = []
        desk.read_here([b"a", b"b"], came.append)
        replica.take()
        await turn()
        assert came == [[(Outcome.DONE, b"1"), (Outcome.NOT_FOUND, None)]]
        assert len(replica.instances) == 1
        desk.read_here([b"a"], came.append)
        replica.clients.take_local(0, None, 0.0)  # the state is of no one moment
        replica.run()
        assert len(replica.instances) == 2

    with_desk(test)


# -- the session of a local client ---------------------------------------------------------------------------


def told(local: LocalClient) -> list[Told]:
    return list(local.take())


def ask(local: LocalClient, ticket: int, key: bytes = b"k") -> None:
    local.ask(Asked(ticket, bytes((WRITE,)), [key], [b"v"], 10))


def test_a_client_that_was_idle_for_long_begins_another_session() -> None:
    replica = LoneReplica()
    local = replica.gate.open(lambda: None)
    ask(local, 1)
    replica.run()
    for generation in range(20):
        list(replica.machine.runs(make_collection(generation, (0, 0, 0))))
    assert replica.machine.sessions == 0
    ask(local, 2)
    replica.run()
    assert told(local) == [Answered(1, b"\0", None), Answered(2, b"\0", None)]


@pytest.mark.parametrize("session", [0, 7])
def test_what_a_replica_was_too_far_behind_for_may_have_executed_and_is_not_asked_for_again(
    session: int,
) -> None:
    replica = LoneReplica()
    local = replica.gate.open(lambda: None)
    local.ask(Asked(1, bytes((Operation.INCREMENT,)), [b"n"], [1], 10, session=session))
    replica.take()  # in generation 0
    for generation in range(20):
        list(replica.machine.runs(make_collection(generation, (0, 0, 0))))
    replica.run()
    replica.run()
    assert told(local) == [Answered(1, bytes((Outcome.EXPIRED,)), None)]
    assert replica.machine.get(b"n") is None
    ask(local, 2)
    replica.run()
    assert told(local) == [Answered(2, b"\0", None)]  # in a session that others know


def test_a_command_with_a_session_of_its_own_executes_once() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        running = asyncio.create_task(replica.serve())
        for _ in range(3):
            assert await desk.execute(Command(Operation.INCREMENT, b"n", 1), 7) == (Outcome.DONE, 1)
        other = Desk(replica.gate, replica.config, replica.limits)
        assert await other.execute(Command(Operation.INCREMENT, b"n", 1), 7) == (Outcome.DONE, 1)
        assert await other.execute(Command(Operation.INCREMENT, b"n", 1), 8) == (Outcome.DONE, 2)
        assert await desk.execute(Command(Operation.INCREMENT, b"n", 1)) == (Outcome.DONE, 3)
        with pytest.raises(Refused, match="bytes together"):
            await desk.execute(put(b"k", b"x" * 10_000), 9)
        other.close()
        running.cancel()

    with_desk(test, LoneReplica(max_frame=5_000))


def test_a_refusal_reaches_whoever_has_a_session_of_its_own() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        asked = asyncio.create_task(desk.execute(put(b"k", b"x"), 7))
        await turn()
        replica.clients.send_away("it stops")
        replica.run()
        with pytest.raises(Busy, match="it stops"):
            await asked

    with_desk(test)


def test_a_question_for_the_status_is_answered_or_fails() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        asked = [asyncio.create_task(desk.status(digest=wanted)) for wanted in (False, True)]
        await turn()
        first, second = replica.clients.local_questions()
        assert [question.options for question in (first, second)] == [{"digest": False}, {"digest": True}]
        replica.clients.answers.answer_status(second, {"name": "second"})
        replica.clients.answers.answer_status(first, {"name": "first"})
        assert [await one for one in asked] == [{"name": "first"}, {"name": "second"}]
        late = asyncio.create_task(desk.status())
        await turn()
        replica.gate.close("the replica has stopped")
        with pytest.raises(Busy, match="has stopped"):
            await late
        with pytest.raises(Busy, match="has stopped"):
            await desk.status()

    with_desk(test)


def test_results_are_not_kept_for_answered_commands() -> None:
    replica = LoneReplica()
    local = replica.gate.open(lambda: None)
    for ticket in range(10):
        local.ask(Asked(ticket, bytes((Operation.INCREMENT,)), [b"n"], [1], 10))
        replica.run()
    assert [answer.values for answer in told(local) if isinstance(answer, Answered)] == [
        [number] for number in range(1, 11)
    ]
    assert 0 < replica.machine.kept < 300


def test_what_does_not_fit_waits_with_its_door() -> None:
    replica = LoneReplica(max_pending=2)
    local = replica.gate.open(lambda: None)
    for ticket in range(5):
        ask(local, ticket)
    replica.take()
    assert replica.clients.answers.waiting == 2
    for _ in range(3):
        replica.run()
    assert [answer.ticket for answer in told(local) if isinstance(answer, Answered)] == [0, 1, 2, 3, 4]
    assert not any(replica.stats.errors.values())


def test_a_replica_that_stops_tells_what_may_have_executed() -> None:
    replica = LoneReplica()
    local = replica.gate.open(lambda: None)
    ask(local, 1)
    replica.take()
    ask(local, 2)
    replica.gate.close("it has stopped")
    ask(local, 3)
    assert told(local) == [
        Unanswered(1, "it has stopped", unknown=True),
        Unanswered(2, "it has stopped"),
        Unanswered(3, "it has stopped"),
    ]


def test_a_disk_that_fails_leaves_nobody_waiting() -> None:
    replica = LoneReplica()
    local = replica.gate.open(lambda: None)
    ask(local, 1)
    replica.take()
    replica.clients.give_up("its disk failed")
    ask(local, 2)
    replica.take()
    assert told(local) == [
        Unanswered(1, "its disk failed", unknown=True),
        Unanswered(2, "its disk failed"),
    ]


def test_who_listens_is_told_what_executes_behind_the_answers_to_that_and_before_all_others() -> None:
    replica = LoneReplica()
    local, other = replica.gate.open(lambda: None), replica.gate.open(lambda: None)
    local.listens = True
    ask(other, 1, b"theirs")
    ask(local, 2, b"ours")
    replica.run()
    ask(local, 3)
    replica.run()
    came = told(local)
    assert [type(one) for one in came] == [Answered, Executed, Answered, Executed]
    executed = came[1]
    assert isinstance(executed, Executed)
    assert {*executed.keys} == {b"ours", b"theirs"}
    assert [one for one in told(other) if isinstance(one, Executed)] == []


def test_instances_of_one_round_are_told_in_their_order() -> None:
    replica = LoneReplica(aggregate=False)
    local = replica.gate.open(lambda: None)
    local.listens = True
    ask(local, 1)
    ask(local, 2)
    replica.run()
    assert [type(one) for one in told(local)] == [Answered, Executed, Answered, Executed]


def test_who_listens_and_does_not_take_is_told_that_something_was_missed() -> None:
    replica = LoneReplica()
    local = replica.gate.open(lambda: None)
    local.listens = True
    for _ in range(UNTAKEN + 5):
        local.observe_end([b"k"])
        local.flush()
    *executed, missed = told(local)
    assert len(executed) == UNTAKEN
    assert missed is None
    local.observe_end([b"k"])
    local.flush()
    assert isinstance(told(local)[0], Executed)


def test_one_that_fails_to_take_its_answer_keeps_nobody_else_from_theirs() -> None:
    async def test(replica: LoneReplica, desk: Desk) -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: faults.append(context["exception"])
        )

        def fail(_: object) -> None:
            raise ValueError

        async def ask_beside() -> Caller:
            desk.ask([Command(READ, b"a")], fail)
            caller = Caller(desk, Command(READ, b"a"))
            await turn()
            return caller

        answered = await ask_beside()
        replica.run()
        await turn()
        assert answered.came == [(Outcome.NOT_FOUND, None)]
        replica.clients.away = "it is starting"
        failed = await ask_beside()
        replica.run()
        await turn()
        assert isinstance(failed.came, Busy)
        replica.clients.away = None
        late = await ask_beside()
        with pytest.raises(NoAnswer):
            await desk.execute(Command(READ, b"a"))
        assert isinstance(late.came, NoAnswer)
        assert [type(fault) for fault in faults] == [ValueError] * 3

    with_desk(test, LoneReplica(client=ClientConfig(0.01, 1)))


def test_a_door_may_open_before_there_is_a_replica() -> None:
    gate = Gate()
    local = gate.open(lambda: None)
    ask(local, 1)
    woken: list[int] = []
    gate.attach(lambda: woken.append(1))
    assert woken == [1]
    assert local.waits
