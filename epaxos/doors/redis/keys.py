"""The commands of keys of any kind: removing, renaming, copying, and when they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from epaxos.doors.desk import Command
from epaxos.doors.redis.numbers import integer
from epaxos.doors.redis.resp import RedisError, Reply, Request
from epaxos.doors.redis.strings import SYNTAX, count_done
from epaxos.doors.redis.table import (
    ALL_KEYS,
    ONE_KEY,
    TWO_KEYS,
    Group,
    KeyPlaces,
    Plan,
    define,
    define_container,
)
from epaxos.doors.redis.times import expire_in
from epaxos.doors.redis.view import View
from epaxos.statemachine.expiry import TTL_MAX
from epaxos.statemachine.operations import Operation, Outcome

_NO_SUCH_KEY: Final = "ERR no such key"
_SAME: Final = "ERR source and destination objects are the same"
_NO_FREQUENCIES: Final = (
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching "
    "between policies at runtime LRU and LFU data will take some time to adjust."
)
_EMBEDDED: Final = 44
"""Bytes of a value up to which Redis keeps it beside its key's object."""


def _delete(view: View, request: Request) -> Reply:
    return sum([view.delete(key) for key in request[1:]])


def _plan_delete(request: Request, _: int) -> Plan:
    return Plan([Command(Operation.DELETE, key) for key in request[1:]], count_done)


def _exists(view: View, request: Request) -> Reply:
    return sum(view.get(key) is not None for key in request[1:])


def _plan_exists(request: Request, _: int) -> Plan:
    return Plan([Command(Operation.EXISTS, key) for key in request[1:]], count_done)


def _type(view: View, request: Request) -> Reply:
    return "none" if view.get(request[1]) is None else "string"


def _plan_type(request: Request, _: int) -> Plan:
    return Plan(
        [Command(Operation.EXISTS, request[1])],
        lambda results: "string" if results[0][0] == Outcome.DONE else "none",
    )


# -- names ---------------------------------------------------------------------------------------------------


def _rename(view: View, request: Request) -> Reply:
    return "OK" if _renamed(view, request, replace=True) else None


def _renamenx(view: View, request: Request) -> Reply:
    return int(_renamed(view, request, replace=False))


def _renamed(view: View, request: Request, *, replace: bool) -> bool:
    _, source, target = request
    value = view.get(source)
    if value is None:
        raise RedisError(_NO_SUCH_KEY)
    if source == target:
        return replace
    if not replace and view.get(target) is not None:
        return False
    left = view.left(source)
    view.delete(source)
    view.set(target, value, left if left is None else max(1, left))
    return True


def _copy(view: View, request: Request) -> Reply:
    _, source, target, *options = request
    replace = _copy_options(options)
    if source == target:
        raise RedisError(_SAME)
    value = view.get(source)
    if value is None or (view.get(target) is not None and not replace):
        return 0
    left = view.left(source)
    view.set(target, value, left if left is None else max(1, left))
    return 1


def _copy_options(options: list[bytes]) -> bool:
    """Whether what there is at the target is replaced."""
    replace = False
    words = iter(options)
    for word in words:
        if word.upper() == b"REPLACE":
            replace = True
        elif word.upper() == b"DB" and (number := next(words, None)) is not None:
            if integer(number) != 0:
                raise RedisError("ERR DB index is out of range")
        else:
            raise RedisError(SYNTAX)
    return replace


def _move(_: View, request: Request) -> Reply:
    if integer(request[2]) != 0:
        raise RedisError("ERR DB index is out of range")
    raise RedisError(_SAME)


# -- what is known of a value --------------------------------------------------------------------------------


def _object(view: View, request: Request) -> Reply:
    """Of how Redis would keep a value, and use it: here each is kept alike, and nobody counts."""
    value = view.get(request[2])
    if value is None:
        return None
    what = request[1].upper()
    if what == b"FREQ":
        raise RedisError(_NO_FREQUENCIES)
    if what == b"ENCODING":
        return _encoding(bytes(value))
    return 1 if what == b"REFCOUNT" else 0


def _encoding(value: bytes) -> bytes:
    try:
        integer(value)
    except RedisError:
        return b"embstr" if len(value) <= _EMBEDDED else b"raw"
    return b"int"


# -- when they end -------------------------------------------------------------------------------------------


class _When(NamedTuple):
    """For how long, in milliseconds, and on which conditions."""

    ttl: int
    options: frozenset[bytes]


_NX, _XX, _GT, _LT = b"NX", b"XX", b"GT", b"LT"


def _when(request: Request, unit: bytes, milliseconds: int) -> _When:
    options = frozenset(word.upper() for word in request[3:])
    for word in request[3:]:
        if word.upper() not in (_NX, _XX, _GT, _LT):
            raise RedisError(f"ERR Unsupported option {word.decode('latin-1')}")
    if _NX in options and len(options) > 1:
        raise RedisError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if _GT in options and _LT in options:
        raise RedisError("ERR GT and LT options at the same time are not compatible")
    return _When(expire_in(request[0].decode().lower(), unit, request[2], milliseconds), options)


def _expire(unit: bytes) -> dict[str, Callable[..., Reply | Plan | None]]:
    def apply(view: View, request: Request) -> Reply:
        key = request[1]
        when = _when(request, unit, view.milliseconds)
        value = view.get(key)
        if value is None or not _allows(when, view.left(key)):
            return 0
        if when.ttl <= 0:
            view.delete(key)
        else:
            view.set(key, bytes(value), when.ttl)
        return 1

    def plan(request: Request, now: int) -> Plan | None:
        if len(request) > 3:
            return None
        ttl = _when(request, unit, now).ttl
        operation = (
            Command(Operation.DELETE, request[1])
            if ttl <= 0
            else Command(Operation.SETTTL, request[1], min(ttl, TTL_MAX))
        )
        return Plan([operation], count_done)

    return {"apply": apply, "plan": plan}


def _allows(when: _When, left: int | None) -> bool:
    options = when.options
    if (_NX in options and left is not None) or (_XX in options and left is None):
        return False
    if _GT in options:
        return left is not None and when.ttl > left
    return not (_LT in options and left is not None and when.ttl >= left)


def _left(unit: bytes) -> Callable[[View, Request], Reply]:
    def apply(view: View, request: Request) -> Reply:
        if view.get(request[1]) is None:
            return -2
        left = view.left(request[1])
        if left is None:
            return -1
        if unit in (b"EXAT", b"PXAT"):
            left += view.milliseconds
        return left if unit in (b"PX", b"PXAT") else (left + 500) // 1000

    return apply


def _persist(view: View, request: Request) -> Reply:
    key = request[1]
    value = view.get(key)
    if value is None or view.left(key) is None:
        return 0
    view.set(key, bytes(value), None)
    return 1


def _plan_persist(request: Request, _: int) -> Plan:
    return Plan([Command(Operation.PERSIST, request[1])], count_done)


# -- the table -----------------------------------------------------------------------------------------------


_define = Group("generic").define

_define("del", -2, "write", "1.0.0", "Delete a key", _delete, _plan_delete, ALL_KEYS)
_define("unlink", -2, "write fast", "4.0.0", "Delete a key", _delete, _plan_delete, ALL_KEYS)
_define("exists", -2, "readonly fast", "1.0.0", "Determine if a key exists", _exists, _plan_exists, ALL_KEYS)
_define(
    "touch", -2, "readonly fast", "3.2.1", "Count which of the keys exist", _exists, _plan_exists, ALL_KEYS
)
_define("type", 2, "readonly fast", "1.0.0", "Determine the type stored at key", _type, _plan_type)
_define("rename", 3, "write", "1.0.0", "Rename a key", _rename, places=TWO_KEYS)
_define(
    "renamenx",
    3,
    "write fast",
    "1.0.0",
    "Rename a key, only if the new key does not exist",
    _renamenx,
    places=TWO_KEYS,
)
_define("copy", -3, "write denyoom", "6.2.0", "Copy a key", _copy, places=TWO_KEYS)
_define("move", 3, "write fast", "1.0.0", "Move a key to another database: there is number 0", _move)
define_container("object", "generic", "2.2.3", "A container for what is known of a value")
for _name, _since, _summary in (
    ("encoding", "2.2.3", "Tell how Redis would encode a value"),
    ("freq", "4.0.0", "Without an answer: nobody counts how often a key is used"),
    ("idletime", "2.2.3", "Tell 0: nobody notes when a key was used"),
    ("refcount", "2.2.3", "Tell 1"),
):
    _define(f"object|{_name}", 3, "readonly", _since, _summary, _object, places=KeyPlaces(2, 2, 1))
_define("persist", 2, "write fast", "2.2.0", "Remove the expiration from a key", _persist, _plan_persist)
for _name, _unit, _since, _summary in (
    ("expire", b"EX", "1.0.0", "Set a key's time to live in seconds"),
    ("pexpire", b"PX", "2.6.0", "Set a key's time to live in milliseconds"),
    ("expireat", b"EXAT", "1.2.0", "Set the expiration for a key as a UNIX timestamp"),
    ("pexpireat", b"PXAT", "2.6.0", "Set the expiration for a key as a UNIX timestamp in milliseconds"),
):
    define(_name, -3, "write fast", ONE_KEY, "generic", _since, _summary, **_expire(_unit))
for _name, _unit, _since, _summary in (
    ("ttl", b"EX", "1.0.0", "Get the time to live for a key in seconds"),
    ("pttl", b"PX", "2.6.0", "Get the time to live for a key in milliseconds"),
    ("expiretime", b"EXAT", "7.0.0", "Get the expiration Unix timestamp for a key"),
    ("pexpiretime", b"PXAT", "7.0.0", "Get the expiration Unix timestamp for a key in milliseconds"),
):
    _define(_name, 2, "readonly fast", _since, _summary, _left(_unit))
