"""Who takes part in an epoch of a cluster (protocol 6.1): a configuration, which lasts as long as the epoch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from epaxos import version
from epaxos.protocol.ids import Name
from epaxos.protocol.quorums import Quorums, allowed, default_f, make_quorums

_EPOCHS = 2**32
_REQUESTS = 2**64
_LEVELS = 2**8
_INCARNATIONS = 2**64
_PORTS = 2**16

NOBODY: Final = "-"
"""The only voter of an epoch in which nobody takes part: no replica may be called so."""

PROTOCOLS: Final = ("epaxos", "multipaxos")
"""By which an epoch may decide, each by its name (`protocol.kinds`)."""

_MARK = "#"
_TOLD: Final = re.compile("[0-9a-f]{16}")
"""Stands behind the name that a replica was given, and before its incarnation, if it has joined: no name has one."""


NO_EPOCH: Final = -1
"""Stands for the epoch of one that is in none of the cluster's (`nobody`), where epochs are compared."""


class Member(NamedTuple):
    """What is known of a voter beside its name (protocol 6.10).

    incarnation  the number that it drew when its directory was made; 0 if who proposed the epoch had not heard it
    host, port   where its peers reach it; "" and 0 of one that is in the files of all
    client_port, metrics_port  of the same host
    moved        the epoch since which it is there and not where it was before; 0 of one that has not moved
    """

    incarnation: int = 0
    host: str = ""
    port: int = 0
    client_port: int = 0
    metrics_port: int = 0
    moved: int = 0

    @property
    def place(self) -> tuple[str, int, int, int]:
        """Its host and ports."""
        return self.host, self.port, self.client_port, self.metrics_port


class Configuration(NamedTuple):
    """The configuration of one epoch; rows of a log, vectors and ballots mean nothing without it.

    epoch     counts configurations from 0, which is that of a cluster when it begins
    protocol  by which instances are decided (`protocol.kinds`)
    names     the voters, in the order of their rows
    f, e      as in `protocol.quorums`
    request   a number drawn by who asked for this epoch, by which they know it; 0 of the first one
    level     of all that its members send one another, and keep (`epaxos.version`); it never falls
    removed   all who ever voted and do not any more: none of them comes back, or an old promise might be counted that
              its disk has lost (protocol 6.2)
    members   what is known of each voter, in the same order; nothing at all in the first epoch
    """

    epoch: int
    protocol: str
    names: tuple[str, ...]
    f: int
    e: int
    request: int = 0
    level: int = version.OLDEST
    removed: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()

    @property
    def n(self) -> int:
        """How many vote."""
        return len(self.names)

    @property
    def quorums(self) -> Quorums:
        """The thresholds of its epoch."""
        return Quorums(self.n, self.f, self.e)

    @property
    def digest(self) -> int:
        """64 bits by which replicas notice that they mean different things by one epoch."""
        return int.from_bytes(blake2b(repr(self.written).encode(), digest_size=8).digest(), "big")

    @property
    def written(self) -> tuple[Any, ...]:
        """Its fields as they are written, and compared: those that there are at its level (decision 0045).

        And those that there are then of what is known of each voter.
        """
        width = version.width(Member, self.level)
        told = self._replace(members=tuple(member[:width] for member in self.members))  # type: ignore[misc]
        return tuple(told)[: version.width(Configuration, self.level)]

    @property
    def incarnations(self) -> dict[Name, int]:
        """Those that are known, by name."""
        known = zip(self.names, self.members, strict=False)
        return {name: member.incarnation for name, member in known if member.incarnation}

    @property
    def moved(self) -> dict[Name, Member]:
        """Those that are no longer where the files of others have them."""
        known = zip(self.names, self.members, strict=False)
        return {name: member for name, member in known if member.moved}

    def is_like(self, other: Configuration) -> bool:
        """Whether the same vote in the same way, in whichever epoch."""
        return self[1:5] == other[1:5]

    def next(
        self,
        request: int,
        f: int | None = None,
        e: int | None = None,
        level: int | None = None,
        names: Sequence[str] | None = None,
        members: Mapping[Name, Member] | None = None,
        protocol: str | None = None,
    ) -> Configuration:
        """What follows as somebody asks for it: with these thresholds, these voters and this protocol, where given.

        `members` tells of voters what was not known of them so far. What is not given stays. But thresholds that so
        many voters do not allow become as high as they may be, and so do those that were as high as might be before
        there were others.

        Raises:
            ValueError: the thresholds do not fit together, or there is a voter that was removed, or two of one name.
        """
        voters = self.names if names is None else tuple(names)
        gone = [name for name in self.names if name not in voters]
        back = [name for name in voters if name in self.removed]
        if back:
            raise ValueError(
                f"{', '.join(back)} was removed, and never comes back as the same: let it begin anew"
            )
        if not voters:
            raise ValueError("nobody would be left; one at least stays")
        calls = list(map(called, voters))
        if twice := sorted({name for name in calls if calls.count(name) > 1}):
            raise ValueError(
                f"two would be called {', '.join(twice)}: remove the one that there is, or replace it"
            )
        n = len(voters)
        if f is None and allowed(n, self.f, 0) and (n == self.n or self.f != default_f(self.n)):
            f = self.f
        if f is not None and e is None and allowed(n, f, self.e):
            e = self.e
        _, f, e = make_quorums(n, f, e)
        removed = (*self.removed, *gone)
        level = self.level if level is None else level
        told = self._told(voters, members)
        return Configuration(
            self.epoch + 1, protocol or self.protocol, voters, f, e, request, level, removed, told
        )

    def _told(self, voters: Sequence[Name], members: Mapping[Name, Member] | None) -> tuple[Member, ...]:
        """What is known of voters: what was known stays, but for where one is that moves."""
        known = dict(zip(self.names, self.members, strict=False))
        if not known and members is None:
            return ()
        told = dict(members or {})
        for name, member in known.items():
            if member.incarnation and told.get(name, member).moved <= member.moved:
                told[name] = member
        return tuple(told.get(name) or Member(incarnation_of(name)) for name in voters)

    def followed_by(self, said: Configuration) -> Configuration:
        """What follows this epoch, of which a barrier says that.

        One that cannot follow changes nothing, and no replica stops for it (protocol 6.8): all take the same for it.
        """
        return said if self._may_be_followed_by(said) else self.next(said.request)

    def _may_be_followed_by(self, said: Configuration) -> bool:
        gone = tuple(name for name in self.names if name not in said.names)
        return (
            said.epoch == self.epoch + 1
            and said.protocol in PROTOCOLS
            and said.level >= self.level
            and allowed(said.n, said.f, said.e)
            and len(set(map(called, said.names))) == said.n
            and len(said.members) in (0, said.n)
            and all(
                said.incarnations.get(name) == number
                for name, number in self.incarnations.items()
                if name in said.names
            )
            and all(incarnation_of(name) in (0, number) for name, number in said.incarnations.items())
            and said.removed == (*self.removed, *gone)
            and not set(said.names) & set(said.removed)
        )

    def leads_to(self, later: Configuration) -> bool:
        """Whether one of a later epoch can be of the same cluster: who voted here votes there, or has been removed.

        Of a cluster that this replica is to join it knows nothing, and takes any: also its first one.
        """
        if NOBODY in self.names:
            return NOBODY not in later.names and later.level >= self.level
        if later.epoch <= self.epoch or later.level < self.level:
            return False
        told = later.incarnations
        return (
            later.removed[: len(self.removed)] == self.removed
            and {*later.names, *later.removed}.issuperset(self.names)
            and all(told.get(name, number) == number for name, number in self.incarnations.items())
        )

    def pins_of(self, name: Name) -> int:
        """How many other voters know one of that name that has no past before it takes part (protocol 6.2).

        Where its incarnation has been decided nobody else can be it, and as many do as make a quorum with it.
        """
        return self.quorums.slow - 1 if name in self.incarnations else self.quorums.pins


def called(name: Name) -> str:
    """What people call a replica, and its key: one that has joined may be called like one that was removed."""
    return name.partition(_MARK)[0]


def joined(name: str, incarnation: int) -> Name:
    """Who one is that is called like this and was no first member."""
    return f"{name}{_MARK}{incarnation:016x}"


def incarnation_of(name: Name) -> int:
    """The incarnation of one that has joined; 0 of a first member, whose name does not tell."""
    return int(name.partition(_MARK)[2] or "0", 16)


def is_name(name: Name) -> bool:
    """Whether a replica may be known by this: one that tells an incarnation does so as `joined` writes it."""
    _, mark, told = name.partition(_MARK)
    return not mark or (_TOLD.fullmatch(told) is not None and int(told, 16) > 0)


def nobody(protocol: str) -> Configuration:
    """Where a replica is that is to join a cluster: no epoch of that, and nobody in it votes."""
    return Configuration(0, protocol, (NOBODY,), 0, 0)


NOBODYS: Final = frozenset(nobody(protocol).digest for protocol in PROTOCOLS)
"""By these who hears one that is to join knows that it speaks of no epoch."""

_LEVEL: Final = Configuration._fields.index("level")
_TYPES: Final = [int, str, list, int, int, int, int, list, list]
"""Of all fields as they are written; one that is added stands last, and in `version.SINCE`."""


def make_configuration(fields: Any) -> Configuration:
    """The configuration that was written as these fields, which are those of its level.

    Raises:
        ValueError, TypeError: they are none.
    """
    level = level_of(fields)
    if list(map(type, fields)) != _TYPES[: version.width(Configuration, level)]:
        raise TypeError(f"not the fields of a configuration of level {level}")
    epoch, protocol, names, f, e, request, level, removed, members = fields
    if set(map(type, [*names, *removed])) != {str} or len({*names, *removed}) != len(names) + len(removed):
        raise ValueError("names that are none, or not distinct")
    if not all(map(is_name, [*names, *removed])):
        raise ValueError("names that do not tell an incarnation")
    in_range = 0 <= epoch < _EPOCHS and 0 <= request < _REQUESTS
    if not (in_range and allowed(len(names), f, e)):
        raise ValueError(f"epoch {epoch}, request {request}, n={len(names)}, f={f}, e={e}")
    told = tuple(make_member(member, level) for member in members)
    if len(told) not in (0, len(names)):
        raise ValueError(f"{len(told)} members are told of, of {len(names)}")
    return Configuration(epoch, protocol, tuple(names), f, e, request, level, tuple(removed), told)


def level_of(fields: Any) -> int:
    """The level of the configuration that was written as these fields, which may be one that nobody here knows.

    Raises:
        ValueError, TypeError: they are none.
    """
    if type(fields) is not list or len(fields) <= _LEVEL or type(fields[_LEVEL]) is not int:
        raise TypeError("not the fields of a configuration")
    level = int(fields[_LEVEL])
    if not 0 < level < _LEVELS:  # of each that is asked for `version.width` keeps something
        raise ValueError(f"level {level}")
    return level


def make_member(fields: Sequence[Any], level: int = version.NEWEST) -> Member:
    """What is known of a voter, that was written as these fields, which are those of a level.

    Raises:
        ValueError, TypeError: they are none.
    """
    width = version.width(Member, level)
    if len(fields) != width:
        raise ValueError(f"not a member of level {level}: {fields!r:.80}")
    later = [Member._field_defaults[name] for name in Member._fields[width:]]
    incarnation, host, *ports, moved = given = [*fields, *later]
    in_range = type(incarnation) is int and 0 <= incarnation < _INCARNATIONS and type(host) is str
    in_range = in_range and type(moved) is int and 0 <= moved < _EPOCHS
    if not (in_range and list(map(type, ports)) == [int] * 3 and all(0 <= port < _PORTS for port in ports)):
        raise ValueError(f"not a member: {fields!r:.80}")
    return Member(*given)
