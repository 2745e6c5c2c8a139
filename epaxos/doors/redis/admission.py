"""What a connection may ask for: commands that there are, keys that may be, and what its login allows.

A login is looked up for each request, so that what is taken from a list is gone at once; for what began before, a
transaction or a walk, once more when it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from epaxos.doors.desk import Command
from epaxos.doors.redis.resp import RedisError, Request
from epaxos.doors.redis.table import NO_AUTH, Spec, look_up
from epaxos.doors.redis.view import TOO_LONG
from epaxos.errors import Denied
from epaxos.security.rights import EVERYTHING, Rights, Role
from epaxos.statemachine.operations import RECORDS

if TYPE_CHECKING:
    from epaxos.doors.redis.connection import Connection

_OF_SUBSCRIBERS: Final = frozenset(
    {"subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ping", "quit", "reset"}
)
"""What a subscriber of version 2 may ask for."""

_BEFORE_LOGIN: Final = frozenset({"auth", "hello", "quit", "reset"})
"""What one may ask for that has not logged in."""


def admitted(connection: Connection, request: Request) -> Spec:
    """The command of a request.

    Raises:
        RedisError: there is none, or it may not be asked for.
    """
    spec = look_up(request)
    rights = connection.rights
    if rights is None and spec.name not in _BEFORE_LOGIN:
        raise RedisError(NO_AUTH)
    if rights is not None and rights is not EVERYTHING:
        _check_rights(spec, rights, spec.keys(request))
    if connection.transaction is not None and spec.walk is not None:
        raise RedisError(f"ERR {spec.name.upper()} is about all keys, and no part of a transaction here")
    if connection.is_subscriber and spec.name not in _OF_SUBSCRIBERS:
        raise RedisError(
            f"ERR Can't execute '{spec.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "
            "allowed in this context"
        )
    limits = connection.door.limits
    for key in spec.keys(request):
        if not 0 < len(key) <= limits.key or key.startswith(RECORDS):
            raise RedisError(
                f"ERR key of {len(key)} bytes; 1 to {limits.key} are allowed"
                + (f", and none that begins with {RECORDS!r}" if key.startswith(RECORDS) else "")
            )
    if connection.door.bulk > limits.value and max(map(len, request)) > limits.value:
        raise RedisError(TOO_LONG)
    return spec


def check_now(connection: Connection, command: Command) -> None:
    """See that a command may be asked for that is part of something which began before.

    Raises:
        RedisError: it may not, or not any more.
    """
    rights = connection.rights
    if rights is None:
        raise RedisError(NO_AUTH)
    try:
        rights.check(bytes((command.operation,)), [command.key], [command.argument])
    except Denied as error:
        raise RedisError(f"NOPERM {error}") from None


def denial(connection: Connection, queued: Iterable[tuple[Spec, Request]]) -> RedisError | None:
    """Why commands may not execute now that could be asked for when they were queued."""
    rights = connection.rights
    if rights is None:
        return RedisError(NO_AUTH)
    try:
        for spec, request in queued:
            _check_rights(spec, rights, spec.keys(request))
    except RedisError as error:
        return error
    return None


def _check_rights(spec: Spec, rights: Rights, keys: Sequence[bytes]) -> None:
    """See that it may ask for a command; one that is about all keys, or tells what happens to them, needs all."""
    name = spec.name.upper()
    try:
        if (keys or spec.walk is not None) and not spec.reads_only and spec.name != "watch":
            rights.check_role(Role.WRITE, name)
        if spec.walk is not None or spec.group == "pubsub":
            rights.check_all_keys(name)
        rights.check_keys(keys)
    except Denied as error:
        raise RedisError(f"NOPERM {error}") from None
