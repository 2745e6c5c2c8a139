"""What may follow an epoch (protocol 6.9)."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest

from epaxos import version
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.membership import (
    PROTOCOLS,
    Configuration,
    Member,
    called,
    incarnation_of,
    joined,
    make_configuration,
    nobody,
)
from epaxos.protocol.quorums import Quorums
from harness.members import members

FIVE = members(5)


@pytest.mark.parametrize(
    ("thresholds", "f", "e"),
    [((None, None), 2, 2), ((1, None), 1, 1), ((None, 1), 2, 1), ((2, 0), 2, 0), ((0, None), 0, 0)],
)
def test_what_is_not_given_stays_if_it_may(thresholds: tuple[int | None, int | None], f: int, e: int) -> None:
    following = FIVE.next(7, *thresholds)
    assert following == FIVE._replace(epoch=1, request=7, f=f, e=e)
    assert following.quorums == Quorums(5, f, e)
    assert FIVE.followed_by(following) == following


@pytest.mark.parametrize("thresholds", [(3, None), (1, 2), (-1, None)])
def test_thresholds_that_do_not_fit_together_are_refused(thresholds: tuple[int, int | None]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        FIVE.next(7, *thresholds)


@pytest.mark.parametrize(
    "said",
    [
        FIVE._replace(epoch=2, request=7),
        FIVE._replace(epoch=1, request=7, f=3),
        FIVE._replace(epoch=1, request=7, names=FIVE.names[:4]),
        FIVE.next(7, names=FIVE.names[1:])._replace(names=FIVE.names),
        FIVE.next(7, names=FIVE.names[1:])._replace(removed=("another",)),
        FIVE._replace(epoch=1, request=7, names=("a", "a", "b", "c", "d")),
        FIVE._replace(epoch=1, request=7, protocol="raft"),
    ],
)
def test_what_cannot_follow_changes_nothing_and_stops_nobody(said: Configuration) -> None:
    assert FIVE.followed_by(said) == FIVE.next(7)


@pytest.mark.parametrize(
    ("epoch", "names", "f", "e"),
    [
        (FIVE, "abc", 1, 1),
        (FIVE, "abcdefg", 3, 2),
        (FIVE.next(7, 1, 0), "abcdefg", 1, 0),
        (FIVE.next(7, 1, 0), "a", 0, 0),
        (FIVE.next(7, 0), "abc", 0, 0),
    ],
)
def test_thresholds_follow_the_number_of_voters_unless_somebody_has_chosen_others(
    epoch: Configuration, names: str, f: int, e: int
) -> None:
    following = epoch.next(8, names=[*names])
    assert (following.names, following.f, following.e) == ((*names,), f, e)
    assert following.removed == FIVE.names
    assert epoch.followed_by(following) == following


def test_the_next_epoch_may_be_of_another_protocol_and_keeps_the_thresholds() -> None:
    led = FIVE.next(7, protocol="multipaxos")
    assert led == FIVE.next(7)._replace(protocol="multipaxos")
    assert FIVE.followed_by(led) == led
    assert led.next(8).protocol == "multipaxos", "what is not given stays"
    assert set(PROTOCOLS) == set(KINDS)


def test_who_was_removed_does_not_come_back() -> None:
    others = FIVE.next(7, names=FIVE.names[1:])
    assert others.removed == FIVE.names[:1]
    with pytest.raises(ValueError, match="removed"):
        others.next(8, names=FIVE.names)
    back = others._replace(epoch=2, request=8, names=FIVE.names)
    assert others.followed_by(back) == others.next(8)


def test_an_incarnation_that_is_known_stays_and_may_not_be_another() -> None:
    name = FIVE.names[0]
    known = FIVE.next(7, members={name: Member(5)})
    assert (
        known.incarnations
        == known.next(8).incarnations
        == known.next(8, members={}).incarnations
        == {name: 5}
    )
    for wrong in (Member(6), Member()):
        said = known.next(8)._replace(members=(wrong, *known.members[1:]))
        assert known.followed_by(said) == known.next(8)
    gone = known.next(8, names=FIVE.names[1:])
    assert known.followed_by(gone) == gone


def test_one_that_joins_may_be_called_like_one_that_goes_and_is_another() -> None:
    old = FIVE.names[0]
    new = joined(old, 2**64 - 1)
    assert (called(new), incarnation_of(new), incarnation_of(old)) == (old, 2**64 - 1, 0)
    following = FIVE.next(7, names=(*FIVE.names[1:], new), members={new: Member(2**64 - 1, "host", 1, 2, 3)})
    assert FIVE.followed_by(following) == following
    assert (following.removed, following.incarnations) == ((old,), {new: 2**64 - 1})
    assert make_configuration([*map(_listed, following)]) == following
    with pytest.raises(ValueError, match="two would be called alpha: remove"):
        FIVE.next(7, names=(*FIVE.names, new))
    for told in ((*following.members[:4], Member(3)), following.members[1:]):
        said = following._replace(members=told)
        assert FIVE.followed_by(said) == FIVE.next(7)


def _listed(field: object) -> object:
    return [*map(_listed, field)] if isinstance(field, tuple) else field


def test_a_configuration_leads_to_all_that_come_of_it_and_to_no_stranger_s() -> None:
    named = FIVE.next(1, members={name: Member(number) for number, name in enumerate(FIVE.names, 1)})
    moved = named.next(2, names=[*named.names[2:], joined("new", 9)])
    last = moved.next(3, names=[joined("new", 9)])
    line = [FIVE, named, moved, last]
    for index, earlier in enumerate(line):
        assert all(earlier.leads_to(later) for later in line[index + 1 :])
        assert not any(earlier.leads_to(other) for other in line[: index + 1])
    stranger = last._replace(epoch=9, names=("mallory",), removed=(), members=(Member(7),))
    assert not any(earlier.leads_to(stranger) for earlier in line)
    assert not moved.leads_to(last._replace(removed=last.removed[1:])), "who was removed is forgotten"
    assert not named.leads_to(named._replace(epoch=9, members=(Member(7), *named.members[1:]))), "another one"
    assert named.leads_to(last._replace(protocol="multipaxos"))
    joining = nobody(FIVE.protocol)
    assert joining.leads_to(last)
    assert joining.leads_to(FIVE), "also of the first epoch"
    assert not joining.leads_to(nobody("multipaxos"))


def test_a_field_of_a_later_level_is_neither_written_nor_compared_at_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if what is known of members had come with the next level: a program of before sees what it always saw."""
    newer = FIVE.next(7, level=version.OLDEST + 1, members={name: Member(9) for name in FIVE.names})
    older = newer._replace(level=version.OLDEST)
    before = older._replace(members=()).written
    monkeypatch.setattr(version, "SINCE", {"Configuration.members": version.OLDEST + 1})
    version.width.cache_clear()
    try:
        assert older.written == before[:-1]
        assert older.digest == older._replace(members=()).digest
        assert newer.written == (*newer[:-1], tuple(map(tuple, newer.members)))
        assert newer.digest != newer._replace(members=()).digest
    finally:
        version.width.cache_clear()


def test_a_later_field_of_what_is_known_of_members_is_neither_written_nor_read_at_a_level_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Member(9, "host", 1, 2, 3, moved=4)
    newer = FIVE.next(7, level=version.OLDEST + 1, members=dict.fromkeys(FIVE.names, told))
    older = newer._replace(level=version.OLDEST)
    monkeypatch.setattr(version, "SINCE", {"Member.moved": version.OLDEST + 1})
    version.width.cache_clear()
    try:
        assert older.written[-1] == (told[:-1],) * 5
        assert newer.written[-1] == (told,) * 5
        for configuration in (older, newer):
            fields = msgpack.unpackb(msgpack.packb(configuration.written))
            read = make_configuration(fields)
            assert read.members[0].moved == (4 if configuration is newer else 0)
            assert read.digest == configuration.digest
    finally:
        version.width.cache_clear()


@pytest.mark.parametrize(
    "change", [lambda fields: [*fields, 5], lambda fields: fields[:-1], lambda fields: fields[:5]]
)
def test_fields_that_a_level_does_not_have_are_refused_and_not_carried_along(
    change: Callable[[list[object]], list[object]],
) -> None:
    """What one replica decides by and another cannot read is no configuration that both are in."""
    fields = [*map(_listed, FIVE)]
    assert make_configuration(fields) == FIVE
    with pytest.raises(TypeError, match="not the fields of a configuration"):
        make_configuration(change(fields))


@pytest.mark.parametrize("level", [-1, 0, 2**8, 2**64])
def test_a_level_that_there_cannot_be_is_refused_before_anything_is_remembered_of_it(level: int) -> None:
    known = version.width.cache_info().currsize
    with pytest.raises(ValueError, match=f"level {level}"):
        make_configuration([*map(_listed, FIVE._replace(level=level))])
    assert version.width.cache_info().currsize == known
