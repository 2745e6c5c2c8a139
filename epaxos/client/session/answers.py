"""The bodies of a replica's answers, checked in shape and type before anything trusts them.

Every function raises `FrameError` of kind ``malformed`` for a body that is not what its kind says.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import msgpack

from epaxos.client.directory import Told
from epaxos.errors import FrameError


class Reply(NamedTuple):
    """Of a REPLY: the outcomes and values of a session's commands from number `first` on."""

    client: int
    first: int
    outcomes: bytes
    values: list[object] | None


class Busy(NamedTuple):
    """BUSY: nothing of the frame was taken."""

    client: int
    first: int
    commands: int


class Away(NamedTuple):
    """AWAY: nothing of the frame was taken, and the replica takes no other for now.

    `commands` is 0 where it tells so before it was asked, and -1 where what is under way there, and may have executed,
    had better be asked for elsewhere too.
    """

    client: int
    first: int
    commands: int
    text: str


class Refused(NamedTuple):
    """REFUSED: nothing of the frame was taken, because of the command at `position` (-1: of the whole frame).

    `commands` is 0 where the replica could not tell which frame it was.
    """

    client: int
    first: int
    commands: int
    position: int
    text: str


class Over(NamedTuple):
    """OVER: nothing of the frame was taken, because the session has ended; in `generation` another one may begin."""

    client: int
    first: int
    commands: int
    generation: int


class Taken(NamedTuple):
    """Of a TAKEN: these commands of a session are under way at the replica."""

    client: int
    first: int
    commands: int


class Status(NamedTuple):
    """STATUS_REPLY or ADMIN_REPLY: the answer to question `id`."""

    id: int
    status: dict[str, Any]


def read_replies(body: bytes) -> list[Reply]:
    """Decode the body of a REPLY: the results of one frame or of several."""
    clients, firsts, counts, outcomes, values = _fields(body, 5)
    if not (
        all(_is_column(column) and len(column) == len(clients) for column in (clients, firsts, counts))
        and type(outcomes) is bytes
        and min(counts) > 0
        and sum(counts) == len(outcomes)
        and (values is None or (type(values) is list and len(values) == len(outcomes)))
    ):
        _malformed("reply")
    if len(clients) == 1:
        return [Reply(clients[0], firsts[0], outcomes, values)]
    replies = []
    begin = 0
    for client, first, count in zip(clients, firsts, counts, strict=True):
        part = slice(begin, begin + count)
        replies.append(Reply(client, first, outcomes[part], None if values is None else values[part]))
        begin += count
    return replies


def read_taken(body: bytes) -> list[Taken]:
    """Decode the body of a TAKEN."""
    columns = _fields(body, 3)
    if not all(_is_column(column) and len(column) == len(columns[0]) for column in columns):
        _malformed("taken")
    return list(map(Taken, *columns))


def _is_column(numbers: object) -> bool:
    return type(numbers) is list and set(map(type, numbers)) == {int}


def read_busy(body: bytes) -> Busy:
    """Decode the body of a BUSY."""
    busy = Busy._make(_fields(body, 3))
    if not _are_integers(busy):
        _malformed("busy")
    return busy


def read_away(body: bytes) -> Away:
    """Decode the body of an AWAY."""
    away = Away._make(_fields(body, 4))
    if not (_are_integers(away[:3]) and type(away.text) is str):
        _malformed("away")
    return away


def read_over(body: bytes) -> Over:
    """Decode the body of an OVER."""
    over = Over._make(_fields(body, 4))
    if not _are_integers(over):
        _malformed("over")
    return over


def read_refused(body: bytes) -> Refused:
    """Decode the body of a REFUSED."""
    refused = Refused._make(_fields(body, 5))
    if not (_are_integers(refused[:4]) and type(refused.text) is str):
        _malformed("refused")
    return refused


def read_members(body: bytes) -> Told:
    """Decode the body of a MEMBERS."""
    epoch, sender, members = _fields(body, 3)
    if not (type(epoch) is int and epoch > 0 and type(sender) is str and type(members) is list and members):
        _malformed("members")
    for member in members:
        if type(member) is not list or list(map(type, member)) != [str, str, int, int]:
            _malformed("members")
        if not 0 <= member[2] < 2**16:
            _malformed("members")
    return Told(epoch, sender, {name: (host, port, moved) for name, host, port, moved in members})


def read_status(body: bytes) -> Status:
    """Decode the body of a STATUS_REPLY or an ADMIN_REPLY."""
    status = Status._make(_fields(body, 2))
    if not (_are_integers(status[:1]) and type(status.status) is dict):
        _malformed("status")
    return status


def _fields(body: bytes, count: int) -> list[Any]:
    try:
        fields = msgpack.unpackb(body)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise FrameError("malformed", f"not the body of an answer: {error}") from error
    if type(fields) is not list or len(fields) != count:
        raise FrameError("malformed", f"not the body of an answer: {count} fields are expected")
    return fields


def _are_integers(fields: tuple[object, ...]) -> bool:
    return all(type(field) is int for field in fields)


def _malformed(kind: str) -> NoReturn:
    raise FrameError("malformed", f"not the body of an answer `{kind}`: a field of a wrong type")
