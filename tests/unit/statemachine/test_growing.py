"""Which commands may make the state larger: those that a replica without room on its disk does not take."""

from __future__ import annotations

import pytest

from epaxos import version
from epaxos.errors import CommandError
from epaxos.statemachine import checks
from epaxos.statemachine.batch import Batch
from epaxos.statemachine.checks import growing
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.operations import Operation as Op

COLUMNS: list[Argument] = [bytes([Op.READ, Op.DELETE]), [b"a", b"b"], [None, None]]
NOT: list[tuple[Op, Argument]] = [
    *((operation, None) for operation in (Op.NULL, Op.READ, Op.EXISTS, Op.DELETE, Op.PERSIST)),
    (Op.PAUSE, 5),
    (Op.SETTTL, 5),
    (Op.ENDSBY, 5),
    (Op.SCAN, [b"", 10, True, False]),
    (Op.COUNT, None),
    (Op.CLEAR, [b"", 10]),
    (Op.CAS, [b"old", None]),
    (Op.CAS, [b"same", b"same"]),
    (Op.MULTI, COLUMNS),
    (Op.MULTI, [bytes([Op.CAS, Op.DELETE]), [b"a", b"a"], [[b"v", b"v"], None]]),
    (Op.VOTE, 1),
    (Op.RESOLVE, [True, [b"a"]]),
    (Op.FORGET, [b"a"]),
]
GROWS: list[tuple[Op, Argument]] = [
    *((operation, b"value") for operation in (Op.WRITE, Op.WRITEREAD, Op.APPEND, Op.APPLY)),
    (Op.INCREMENT, 1),
    (Op.CAS, [None, b"new"]),
    (Op.CAS, [b"old", b"new"]),
    (Op.SETEX, [b"value", 5]),
    (Op.MULTI, [bytes([Op.READ, Op.WRITE]), [b"a", b"b"], [None, b"value"]]),
    (Op.PREPARE, [0, [[b"g", 1]], COLUMNS]),
]


def batch(*commands: tuple[Op, Argument]) -> Batch:
    operations, arguments = bytes(one for one, _ in commands), [argument for _, argument in commands]
    plain = None if arguments == [None] * len(arguments) else arguments
    return Batch(1, 1, 1, operations, [b"k"] * len(operations), plain, 0)


@pytest.mark.parametrize("command", NOT)
def test_what_leaves_it_no_larger_is_taken(command: tuple[Op, Argument]) -> None:
    assert growing(batch(command)) is None


@pytest.mark.parametrize("command", GROWS)
def test_what_may_make_it_larger_is_not(command: tuple[Op, Argument]) -> None:
    assert growing(batch(*NOT, command)) == len(NOT)


def test_no_operation_is_forgotten() -> None:
    assert {operation for operation, _ in NOT + GROWS} | {Op.EXPIRE} == set(Op)


def test_what_is_new_is_refused_while_the_cluster_is_at_the_level_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(version.SINCE, "INCREMENT", 11)
    checks._later.cache_clear()
    inside = [bytes([Op.READ, Op.INCREMENT]), [b"a", b"b"], [None, 1]]
    for command in ((Op.INCREMENT, 1), (Op.MULTI, inside), (Op.PREPARE, [0, [[b"g", 1]], inside])):
        with pytest.raises(
            CommandError, match="INCREMENT is known from level 11 on, and this cluster is at 10"
        ) as it:
            checks.check_level(batch((Op.WRITE, b"value"), command), 10)
        assert it.value.index == 1
        checks.check_level(batch(command), 11)
    checks.check_level(batch((Op.WRITE, b"value"), (Op.MULTI, COLUMNS)), 10)
    checks._later.cache_clear()
