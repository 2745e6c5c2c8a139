"""Where the replicas of a cluster are: those that a client was given, and those that it has been told of since.

Members of a cluster come and go (protocol 6.10), and each of them tells who they are: whom it hears for the first time
in an epoch, and everybody when another one begins. Who a replica is its id says; a place (a name and an endpoint) is
only where one was found last. So a client goes on when all those that it was given have been replaced, as long as it
has heard of one that is there.

Nothing is forgotten. A place of which nobody knows any more is the last that is tried, for an address that a replica
tells may mean nothing where the client runs, as behind a forwarded port.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from epaxos.config import place, show
from epaxos.errors import ConfigError
from epaxos.protocol.ids import Name
from epaxos.protocol.membership import called
from epaxos.security.keys import Login

_NOBODY: Final = ""
"""The id of who is where a replica has left."""


class Told(NamedTuple):
    """What a replica, by its id, says of the members in its epoch: of each its host, its client port, and more.

    That is the epoch since which it is there and not where it was before, 0 of one that has not moved. Of one that the
    replica does not know how to reach the port is 0.
    """

    epoch: int
    sender: Name
    members: Mapping[Name, tuple[str, int, int]]


@dataclass(slots=True)
class Place:
    """Where a replica was found last: what it is called, its endpoint, and its key, where there are keys.

    id  who was there when it was last heard of; None before
    """

    name: str
    endpoint: str
    server: str = ""
    id: Name | None = None


class Directory:
    """The replicas by index, which stays the same for as long as the client lives.

    Sessions of several threads may share it: a place is added in one step, and `order` is another one whenever anything
    is other than before. Two that learn at the same time may have a place twice, which does no harm.

    places    where replicas are, and were
    members   those that take part, the preferred one first: all that were given, before anything is learned
    order     all, members first; before them those that are asked `first`, whoever takes part

    `aside` are observers: they take part in nothing, and are asked by name, or first.
    """

    def __init__(
        self,
        names: Sequence[str],
        endpoints: Sequence[str],
        order: Sequence[int],
        login: Login | None,
        aside: Sequence[int] = (),
        first: Sequence[int] = (),
    ) -> None:
        servers = [""] * len(names) if login is None else login.servers
        self.places = list(map(Place, names, endpoints, servers))
        self.members = self._given = tuple(order)
        self._aside: Final = frozenset(aside)
        self._first: Final = tuple(first)
        self.order = self._ordered()
        self._by_endpoint: Final = list(endpoints) == [f"tcp://{name}" for name in names]
        self._login: Final = login
        self._told = Told(0, "", {})

    def __repr__(self) -> str:
        return f"Directory({', '.join(self.replicas)})"

    @property
    def epoch(self) -> int:
        """That of which something was learned last; 0 if nothing was."""
        return self._told.epoch

    @property
    def names(self) -> list[str]:
        """What the replicas are called, by index; endpoints, where nothing else was given."""
        return [place.name for place in self.places]

    @property
    def replicas(self) -> tuple[str, ...]:
        """The names of those that take part."""
        return tuple(dict.fromkeys(self.places[index].name for index in sorted(self.members)))

    def index_of(self, name: str) -> int:
        """The replica of that name: the one that takes part, if more were called so.

        Raises:
            ConfigError: there is none.
        """
        for index in self.order:
            if self.places[index].name == name:
                return index
        known = (*self.replicas, *(self.places[index].name for index in sorted(self._aside)))
        raise ConfigError(f"replica: found {show(name)}; allowed: one of {', '.join(known)}")

    def learn(self, told: Told, by: int, random: Random) -> bool:
        """Take what the replica of index `by` says; whether anything is other than before."""
        self.places[by].id = told.sender
        if told.epoch > self.epoch:
            self._told = told
            for member, (host, port, moved) in told.members.items():
                if port:
                    self._enter(member, f"tcp://{place(host, port)}", moved=bool(moved))
        members = self._taking_part()
        if set(members) == set(self.members):
            return False
        if members[0] != self._given[0]:  # it has gone, and those who preferred it spread over the others
            begin = random.randrange(len(members))
            members = members[begin:] + members[:begin]
        self.members = tuple(members)
        self.order = self._ordered()
        return True

    def _ordered(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys((*self._first, *self.members, *range(len(self.places)))))

    def _enter(self, member: Name, endpoint: str, *, moved: bool) -> None:
        """Have a place for a member: one that is known, or another one."""
        name = endpoint.removeprefix("tcp://") if self._by_endpoint else called(member)
        key = "" if self._login is None else self._login.find(called(member))
        if key is None:
            return  # nobody could log in there
        present = self._told.members
        if moved:  # wherever it was, it is there no more
            for its in self.places:
                if its.endpoint != endpoint and (its.id or its.name) == member:
                    its.id = _NOBODY
        for its in self.places:
            replaced = its.id not in present and its.name == name
            if (its.endpoint, its.server) == (endpoint, key) and (its.id == member or replaced):
                its.id = member
                return
            if its.id is None and its.name == member:
                its.id = member  # a first member, which goes by another address here
        self.places.append(Place(name, endpoint, key, member))

    def _taking_part(self) -> list[int]:
        """All, if nobody is known to; of an endpoint alone nobody can tell that it does not."""
        others = set(range(len(self.places))) - self._aside - set(self._given)
        every = [*self._given, *sorted(others)]
        present, unknown = self._told.members, self._by_endpoint or not self.epoch
        its = [(index, self.places[index].id) for index in every]
        return [index for index, id_ in its if (unknown if id_ is None else id_ in present)] or every
