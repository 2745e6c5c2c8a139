"""What operators ask of a replica: to have the cluster's members changed (protocol 6.8).

A request bears a number, drawn by who asks, which the configuration that it leads to names: asked again after a lost
answer, it is told what has become of it. And it bears the epoch from which it was made: in another one it might undo
what somebody else has done meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any, Final, NamedTuple

import msgpack

from epaxos import version
from epaxos.config import Config, show
from epaxos.errors import FrameError
from epaxos.metrics import ReplicaStats
from epaxos.protocol.ids import Name
from epaxos.protocol.membership import PROTOCOLS, Configuration, Member, called, joined, make_member
from epaxos.transport.framing import Body

PAUSE: Final = 1.0
"""Seconds from the beginning of an epoch until the next may be asked for: each makes all clients wait for a moment."""

_REMEMBERED: Final = 64
"""The last epochs of which it is known which request they came of."""

REFRESH: Final = "refresh"
"""The verb that asks for another epoch with the same members, and perhaps other thresholds or another protocol."""

CHANGE: Final = "change"
"""The same, with other members, and perhaps other thresholds."""

UPGRADE: Final = "upgrade"
"""The same, and that epoch is to be of the highest level that all of them know."""

VERBS: Final = (REFRESH, CHANGE, UPGRADE)

PROPOSED, DONE, POSSIBLE, SUPERSEDED = "proposed", "done", "possible", "superseded"
EARLY, REFUSED, UNKNOWN = "early", "refused", "unknown"
"""What becomes of a request: it is under way; it has led to `epoch`; it would be taken, but is only a question;
another one has led to `epoch`; it comes within `PAUSE` and is to be made again; it cannot be done, as `text` says; or
the epoch that it could have led to is over, and whose that was is not known here."""


class AdminRequest(NamedTuple):
    """A request of an operator.

    id       under which it is answered on its connection
    base     the epoch from which it was made
    request  its number
    dry      whether it only asks what would become of it
    f, e     the thresholds of the next epoch; None to keep them
    add      who joins, by who they are; with `remove` and `move`, for `CHANGE` alone
    remove   who goes: what they are called
    move     who is elsewhere from now on, by who they are, and where
    protocol by which the next epoch decides; None to keep it
    """

    identity: bytes
    id: object
    verb: str
    base: int
    request: int
    dry: bool
    f: int | None
    e: int | None
    add: Mapping[Name, Member] = {}
    remove: Sequence[str] = ()
    move: Mapping[Name, Member] = {}
    protocol: str | None = None


class Standpoint(NamedTuple):
    """How the replica that is asked stands: why it cannot serve, when its epoch began, whether that is about to end."""

    away: str | None
    began_at: float
    is_ending: bool


def read_request(identity: bytes, body: Body) -> AdminRequest:
    """Decode the body of an ADMIN frame.

    Raises:
        FrameError: it is none.
    """
    try:
        id_, fields = msgpack.unpackb(body)
        names = ("verb", "base", "request", "dry_run", "f", "e")
        request = AdminRequest(identity, id_, *(fields[name] for name in names))
        move = {name: make_member([*told, request.base + 1]) for name, *told in fields.get("move", ())}
        if not all(type(name) is str and at.host and at.port for name, at in move.items()):
            raise ValueError("one that moves nowhere")  # noqa: TRY301 - what is wrong is told below, once
        request = request._replace(add=_read_joiners(fields["add"]), remove=fields["remove"], move=move)
        request = request._replace(protocol=fields["protocol"])
    except (ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException) as error:
        raise FrameError("malformed", f"not a request of an operator: {error!r}") from error
    thresholds = {type(request.f), type(request.e)} <= {int, NoneType}
    known = list(map(type, request[1:6])) == [int, str, int, int, bool] and 0 < request.request < 2**64
    thresholds = thresholds and type(request.protocol) in (str, NoneType)
    removes = type(request.remove) is list and {str}.issuperset(map(type, request.remove))
    if not (thresholds and known and removes):
        raise FrameError("malformed", "not a request of an operator: fields of a wrong type")
    return request


def _read_joiners(fields: Any) -> dict[Name, Member]:
    """Who is to join: what each is called, and what is known of it.

    Raises:
        ValueError, TypeError: fields of a wrong type.
    """
    joiners = {}
    for name, *told in fields:
        member = make_member([*told, 0])
        if type(name) is not str or called(name) != name or not (member.incarnation and member.port):
            raise ValueError(f"not one that is to join: {name!r:.80}")
        joiners[joined(name, member.incarnation)] = member
    return joiners


class Admin:
    """Judges the requests that one replica gets; `incarnations` are those that are known of the members.

    Where first members are to be reached `config` says; who joins may have a file without them.
    """

    def __init__(
        self, config: Config, stats: ReplicaStats, incarnations: Callable[[], Mapping[Name, int]]
    ) -> None:
        self._filed = {one.name: one.place for one in config.replicas}
        self._stats = stats
        self._incarnations = incarnations
        self._made: dict[int, int] = {}
        self._pending = 0

    def begun(self, configuration: Configuration) -> None:
        """An epoch has begun."""
        self._made[configuration.epoch] = configuration.request
        self._made.pop(configuration.epoch - _REMEMBERED, None)

    def judge(
        self, asked: AdminRequest, running: Configuration, standpoint: Standpoint, now: float
    ) -> dict[str, Any]:
        """What is to be answered; a request that is `PROPOSED` and was not before has to be proposed now."""
        if asked.base < running.epoch:
            return self._past(asked, running.epoch)
        refusal = self._refusal(asked, running, standpoint)
        if refusal:
            return refused(refusal, running.epoch)
        if now < standpoint.began_at + PAUSE and not (asked.dry or standpoint.is_ending):
            text = f"epoch {running.epoch} has only just begun; ask again in {PAUSE:g} s"
            return _answer(EARLY, running.epoch, text)
        return _answer(POSSIBLE if asked.dry else PROPOSED, running.epoch, "")

    def _past(self, asked: AdminRequest, running: int) -> dict[str, Any]:
        """What has become of a request of an earlier epoch: if anything, the one after that.

        A replica that was started since, or has fetched the state, knows of the running one alone which request it
        came of: that of the others may have been this one.
        """
        epoch = asked.base + 1
        made = self._made.get(epoch)
        if made == asked.request:
            return _answer(DONE, epoch, f"epoch {epoch} has begun")
        if made is None:
            text = (
                f"epoch {epoch} is over, and whether it came of this request is not known here any more; "
                "`epaxos member list` tells who the members are now"
            )
            return _answer(UNKNOWN, running, text)
        return _answer(SUPERSEDED, running, f"epoch {running} has begun, by another request")

    def is_new(self, asked: AdminRequest) -> bool:
        """Whether a request is proposed for the first time here; noted."""
        is_new = asked.request != self._pending
        self._pending = asked.request
        return is_new

    def following(self, asked: AdminRequest, running: Configuration) -> Configuration:
        """The configuration that is asked for; it tells those of the members that are known.

        Raises:
            ValueError: thresholds that do not fit together.
        """
        level = max(running.level, self._level) if asked.verb == UPGRADE else None
        known = self._incarnations().items()
        members = {name: Member(number, *self._filed.get(name, ())) for name, number in known}
        members |= {
            name: at._replace(incarnation=members[name].incarnation) for name, at in asked.move.items()
        }
        members |= asked.add
        names = None
        if asked.verb == CHANGE:
            names = [*(name for name in running.names if called(name) not in asked.remove), *asked.add]
        return running.next(asked.request, asked.f, asked.e, level, names, members, asked.protocol)

    @property
    def _level(self) -> int:
        """The highest level that all members know, as far as they are there to say so."""
        return min([version.NEWEST, *self._known.values()])

    @property
    def _known(self) -> dict[Name, int]:
        """The level that the program of each other member knows."""
        stats = self._stats
        return {name: stats.peer_level[name] for name in stats.replicas if name != stats.me}

    def _held_back(self, level: int) -> str:
        """Why it cannot be raised."""
        known = self._known
        if away := [name for name, newest in known.items() if not newest]:
            return f"{', '.join(away)} must be there to say what their programs know; start them first"
        old = [name for name, newest in known.items() if newest <= level]
        old += [self._stats.me] if level >= version.NEWEST else []
        return f"the cluster is at level {level}, and more is not known to {', '.join(sorted(old))}"

    def _refusal(self, asked: AdminRequest, running: Configuration, standpoint: Standpoint) -> str:
        if asked.verb not in VERBS:
            return f"no change is called {show(asked.verb)}; allowed: {', '.join(VERBS)}"
        if asked.base > running.epoch:
            return f"this replica is in epoch {running.epoch} and lags; ask another one, or wait"
        if standpoint.away is not None:
            return f"this replica takes no requests: {standpoint.away}"
        if standpoint.is_ending:
            if asked.request == self._pending:
                return ""
            return f"a change is under way; ask again when epoch {running.epoch + 1} has begun"
        if asked.verb == UPGRADE and self._level <= running.level:
            return self._held_back(running.level)
        if unknown := self._unknown(asked, running):
            return unknown
        try:
            following = self.following(asked, running)
        except ValueError as error:
            what = "members that cannot be" if asked.verb == CHANGE else "thresholds that do not fit together"
            return f"{what}: {error}"
        known = following.incarnations
        if asked.verb == CHANGE and (strange := [name for name in following.names if name not in known]):
            return (
                f"{', '.join(map(called, strange))} was never heard here, so it is not known which replica that is; "
                "start it first, or remove it too"
            )
        return self._lacking(running, following)

    def _unknown(self, asked: AdminRequest, running: Configuration) -> str:
        """What is named and not known: a protocol, or who is no member, or is not known to be one."""
        if asked.protocol not in (None, *PROTOCOLS):
            return f"no protocol is called {show(asked.protocol)}; allowed: {', '.join(PROTOCOLS)}"
        if unknown := set(asked.remove) - set(map(called, running.names)):
            return f"no member is called {', '.join(sorted(unknown))}; members: {', '.join(map(called, running.names))}"
        if strange := sorted(set(asked.move) - (set(running.names) & self._incarnations().keys())):
            return f"{', '.join(map(called, strange))} was never heard here, or is no member, and so it cannot move"
        return ""

    def _lacking(self, running: Configuration, following: Configuration) -> str:
        """Why the next epoch could not begin, or not go on; one that joins is up, as it has been asked who it is."""
        heard = self._stats.heard
        for configuration in (running, following):
            up = [name for name in configuration.names if name in heard or name not in running.names]
            needed = configuration.quorums.slow
            if len(up) < needed:
                return (
                    f"{len(up)} of {configuration.n} replicas are up ({', '.join(map(called, up))}), and {needed} must "
                    "be, or the next epoch could not begin; start the others first"
                )
        return ""


def refused(text: str, epoch: int = 0) -> dict[str, Any]:
    """The answer to a request that cannot be done."""
    return _answer(REFUSED, epoch, text)


def _answer(outcome: str, epoch: int, text: str) -> dict[str, Any]:
    return {"outcome": outcome, "epoch": epoch, "text": text}
