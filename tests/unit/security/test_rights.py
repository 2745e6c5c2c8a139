from __future__ import annotations

from typing import Any

import pytest

from epaxos.errors import Denied
from epaxos.security.rights import EVERYTHING, Rights, Role
from epaxos.statemachine.operations import READERS, READERS_OF_ALL, RECORDS, Operation

RECORD = RECORDS + bytes(16)
READS = {Operation.NULL, *READERS, *READERS_OF_ALL}


def command(operation: Operation, key: bytes = b"a/key") -> tuple[bytes, list[bytes], list[Any]]:
    """Columns of one command that touches a key."""
    part = [bytes((Operation.WRITE,)), [key], [b"value"]]
    arguments: dict[Operation, Any] = {
        Operation.MULTI: part,
        Operation.APPLY: [[], [key], b"command"],
        Operation.PREPARE: [1, [[b"g", 1]], part],
        Operation.VOTE: 1,
        Operation.RESOLVE: [True, [key]],
        Operation.FORGET: [key],
    }
    if operation in (Operation.NULL, Operation.PAUSE, Operation.MULTI, Operation.APPLY):
        column = b""
    elif operation in (Operation.PREPARE, Operation.VOTE, Operation.RESOLVE, Operation.FORGET):
        column = RECORD
    else:
        column = key
    return bytes((operation,)), [column], [arguments.get(operation)]


def may(rights: Rights, operations: bytes, keys: list[bytes], arguments: list[Any] | None) -> bool:
    try:
        rights.check(operations, keys, arguments)
    except Denied:
        return False
    return True


@pytest.mark.parametrize("operation", [each for each in Operation if each != Operation.EXPIRE])
def test_every_operation_needs_a_role(operation: Operation) -> None:
    """EXPIRE is refused to all clients before."""
    least = Role.READ if operation in READS else Role.ADMIN if operation == Operation.PAUSE else Role.WRITE
    for role in Role:
        for prefixes in ((), (b"a/",)):
            assert may(Rights("web", role, prefixes), *command(operation)) is (role >= least)


@pytest.mark.parametrize("operation", [each for each in Operation if each != Operation.EXPIRE])
def test_a_key_of_another_prefix_is_not_touched(operation: Operation) -> None:
    touches = operation not in (Operation.NULL, Operation.PAUSE, Operation.VOTE)
    rights = Rights("web", Role.ADMIN, (b"b/", b"c/"))
    assert may(rights, *command(operation)) is not touches
    assert may(rights, *command(operation, b"c/key"))
    assert may(Rights("web", Role.ADMIN), *command(operation))


def test_one_command_among_many_is_blamed() -> None:
    operations = bytes((Operation.READ, Operation.READ, Operation.WRITE, Operation.READ))
    with pytest.raises(Denied, match=r"^web has the role read; WRITE needs the role write$") as denied:
        Rights("web", Role.READ).check(operations, [b"k"] * 4, [None, None, b"v", None])
    assert denied.value.index == 2
    keys = [b"a/1", b"b/1", b"a/2"]
    with pytest.raises(
        Denied, match='may not touch the key "b/1"; it has those that begin with "a/"'
    ) as denied:
        Rights("web", Role.WRITE, (b"a/",)).check(bytes((Operation.READ,)) * 3, keys, None)
    assert denied.value.index == 1


def test_what_a_multi_and_a_machine_may_do_is_what_their_parts_need() -> None:
    reads = [bytes((Operation.READ, Operation.EXISTS)), [b"a", b"b"], [None, None]]
    assert may(Rights("web", Role.READ), bytes((Operation.MULTI,)), [b""], [reads])
    assert not may(Rights("web", Role.READ, (b"a",)), bytes((Operation.MULTI,)), [b""], [reads])
    for footprint, fine in (
        ([[b"a"], [], b"x"], True),
        ([[b"a"], [b"a"], b"x"], False),
        ([[b"b"], [], b"x"], False),
    ):
        assert may(Rights("web", Role.READ, (b"a",)), bytes((Operation.APPLY,)), [b""], [footprint]) is fine


def test_an_operation_that_nobody_has_judged_is_for_admins_of_all_keys() -> None:
    unknown = bytes((200,)), [b"a/key"], [None]
    assert may(EVERYTHING, *unknown)
    assert not may(Rights("web", Role.WRITE), *unknown)
    assert not may(Rights("web", Role.ADMIN, (b"a/",)), *unknown)


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({}, 1),
        ({"brief": True}, 1),
        ({"digest": False}, 1),
        ({"digest": True}, 3),
        ({"transactions": True}, 3),
        ({"new": 1}, 3),
    ],
)
def test_questions_for_the_state(options: dict[str, Any], least: int) -> None:
    for role in Role:
        if role >= least:
            Rights("web", role, (b"a/",)).check_question(options)
        else:
            with pytest.raises(Denied):
                Rights("web", role).check_question(options)


def test_what_is_refused_is_told_in_a_short_line_that_can_be_printed() -> None:
    options = {"\x1b[31mred\u2028": 1, **{f"{number}" + "x" * 100_000: 1 for number in range(100)}}
    with pytest.raises(Denied) as denied:
        Rights("web", Role.READ).check_question(options)
    assert str(denied.value).isprintable()
    assert len(str(denied.value)) < 1000


def test_keys_are_watched_by_who_may_list_them() -> None:
    Rights("web", Role.READ, (b"a/",)).check_question({"watch": {"prefix": b"a/b"}})
    for prefix in (b"", b"a", b"b/"):
        with pytest.raises(Denied):
            Rights("web", Role.ADMIN, (b"a/",)).check_question({"watch": {"prefix": prefix}})


def test_how_long_a_value_lasts_is_told_to_who_may_read_it() -> None:
    Rights("web", Role.READ, (b"a/",)).check_question({"left": b"a/key"})
    with pytest.raises(Denied):
        Rights("web", Role.ADMIN, (b"a/",)).check_question({"left": b"b/key"})
