"""The commands of strings: a function of a view for each, and for most the operations that come to the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from epaxos.doors.desk import Command, Result
from epaxos.doors.redis.numbers import add_floats, integer
from epaxos.doors.redis.resp import RedisError, Reply, Request
from epaxos.doors.redis.table import ALL_KEYS, ONE_KEY, PAIRS, Group, Plan, define
from epaxos.doors.redis.times import expiry_of
from epaxos.doors.redis.view import KEEP, TOO_LONG, View
from epaxos.statemachine.expiry import TTL_MAX
from epaxos.statemachine.operations import INTEGER_MAX, INTEGER_MIN, Operation, Outcome

SYNTAX: Final = "ERR syntax error"
OVERFLOW: Final = "ERR increment or decrement would overflow"
_DONE: Final = int(Outcome.DONE)


def first(results: Sequence[Result]) -> Reply:
    """The value of the first operation."""
    return results[0][1]


def ok(_: Sequence[Result]) -> Reply:
    """The answer to what cannot fail."""
    return "OK"


def count_done(results: Sequence[Result]) -> Reply:
    """How many operations came to DONE."""
    return sum(outcome == _DONE for outcome, _ in results)


def reads(keys: Sequence[bytes]) -> list[Command]:
    """Reads of these keys."""
    return [Command(Operation.READ, key) for key in keys]


def write(key: bytes, value: bytes, ttl: int | None) -> Command:
    """A write with a time, as `View.set` takes it."""
    if ttl is None:
        return Command(Operation.WRITE, key, value)
    return Command(Operation.SETEX, key, [value, None if ttl == KEEP else min(ttl, TTL_MAX)])


# -- SET and its relatives -----------------------------------------------------------------------------------


class _Options(NamedTuple):
    """What SET and GETEX may be asked for beside their arguments.

    `absent` and `present`: only if the key is. `get`: the value before. `ttl`: for how many milliseconds, None if for
    ever, KEEP if as before; `timed` whether one of these was said.
    """

    absent: bool
    present: bool
    get: bool
    timed: bool
    ttl: int | None


_TIMES: Final = (b"EX", b"PX", b"EXAT", b"PXAT")
_BESIDE: Final = {b"NX": b"XX", b"XX": b"NX"}


def _said(name: str, words: Sequence[bytes]) -> tuple[set[bytes], bytes]:
    """The options of SET or GETEX, and the number of the one that has one.

    One that is said twice is as good as once, and the last number counts.

    Raises:
        RedisError: they are none, or do not go together.
    """
    said: set[bytes] = set()
    number = b""
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option in _TIMES or option == (b"KEEPTTL" if name == "set" else b"PERSIST"):
            given = next(rest, None) if option in _TIMES else b""
            if given is None or not said.isdisjoint({*_TIMES, b"KEEPTTL", b"PERSIST"} - {option}):
                raise RedisError(SYNTAX)
            number = given
        elif name != "set" or option not in (b"NX", b"XX", b"GET") or _BESIDE.get(option) in said:
            raise RedisError(SYNTAX)
        said.add(option)
    return said, number


def _options(name: str, words: Sequence[bytes], milliseconds: int) -> _Options:
    said, number = _said(name, words)
    unit = next((unit for unit in _TIMES if unit in said), None)
    ttl = KEEP if b"KEEPTTL" in said else None
    if unit is not None:
        ttl = expiry_of(name, unit, number, milliseconds)
    timed = unit is not None or not said.isdisjoint({b"KEEPTTL", b"PERSIST"})
    return _Options(b"NX" in said, b"XX" in said, b"GET" in said, timed, ttl)


def _set(view: View, request: Request) -> Reply:
    key, value = request[1:3]
    wanted = _options("set", request[3:], view.milliseconds)
    before = view.get(key)
    if (wanted.absent and before is not None) or (wanted.present and before is None):
        return before if wanted.get else None
    _put(view, key, value, wanted.ttl)
    return before if wanted.get else "OK"


def _put(view: View, key: bytes, value: bytes, ttl: int | None) -> None:
    """Give a key a value; for a time that has passed, and it is gone at once."""
    is_over = ttl is not None and ttl != KEEP and ttl <= 0
    view.set(key, value, None if is_over else ttl)
    if is_over:
        view.delete(key)


def _plan_set(request: Request, now: int) -> Plan | None:
    _, key, value, *options = request
    if not options:
        return Plan([Command(Operation.WRITE, key, value)], ok)
    wanted = _options("set", options, now)
    if wanted.present or (wanted.ttl is not None and KEEP != wanted.ttl <= 0):
        return None
    to_write = write(key, value, wanted.ttl)
    if wanted.absent:
        if wanted.get:
            return None
        if wanted.ttl is None:
            return Plan([Command(Operation.CAS, key, [None, value])], _ok_if_done)
        return Plan([Command(Operation.CAS, key, [None, None]), to_write], _ok_if_done)
    if wanted.get:
        return Plan([Command(Operation.READ, key), to_write], first)
    return Plan([to_write], ok)


def _ok_if_done(results: Sequence[Result]) -> Reply:
    return "OK" if results[0][0] == _DONE else None


def _setex(unit: bytes) -> dict[str, Callable[..., Reply | Plan | None]]:
    def apply(view: View, request: Request) -> Reply:
        name, key, time, value = request
        view.set(key, value, expiry_of(name.decode().lower(), unit, time, view.milliseconds))
        return "OK"

    def plan(request: Request, now: int) -> Plan | None:
        name, key, time, value = request
        return Plan([write(key, value, expiry_of(name.decode().lower(), unit, time, now))], ok)

    return {"apply": apply, "plan": plan}


def _setnx(view: View, request: Request) -> Reply:
    _, key, value = request
    if view.get(key) is not None:
        return 0
    view.set(key, value, None)
    return 1


def _plan_setnx(request: Request, _now: int) -> Plan:
    _, key, value = request
    return Plan([Command(Operation.CAS, key, [None, value])], count_done)


def _getset(view: View, request: Request) -> Reply:
    _, key, value = request
    before = view.get(key)
    view.set(key, value, None)
    return before


def _plan_getset(request: Request, _now: int) -> Plan:
    _, key, value = request
    return Plan([Command(Operation.WRITEREAD, key, value)], first)


def _getdel(view: View, request: Request) -> Reply:
    before = view.get(request[1])
    view.delete(request[1])
    return before


def _plan_getdel(request: Request, _: int) -> Plan:
    return Plan([Command(Operation.READ, request[1]), Command(Operation.DELETE, request[1])], first)


def _mset(view: View, request: Request) -> Reply:
    for key, value in _pairs(request):
        view.set(key, value, None)
    return "OK"


def _pairs(request: Request) -> list[tuple[bytes, bytes]]:
    if len(request) % 2 == 0:
        raise RedisError(f"ERR wrong number of arguments for '{request[0].decode().lower()}' command")
    return list(zip(request[1::2], request[2::2], strict=True))


def _plan_mset(request: Request, _: int) -> Plan:
    return Plan([Command(Operation.WRITE, *pair) for pair in _pairs(request)], ok)


def _msetnx(view: View, request: Request) -> Reply:
    pairs = _pairs(request)
    if any(view.get(key) is not None for key, _ in pairs):
        return 0
    for key, value in pairs:
        view.set(key, value, None)
    return 1


def _plan_msetnx(request: Request, _: int) -> Plan:
    last = dict(_pairs(request))
    return Plan(
        [Command(Operation.CAS, key, [None, value]) for key, value in last.items()],
        lambda results: int(all(outcome == _DONE for outcome, _ in results)),
    )


# -- reading -------------------------------------------------------------------------------------------------


def _get(view: View, request: Request) -> Reply:
    return view.get(request[1])


def _plan_get(request: Request, _: int) -> Plan:
    return Plan([Command(Operation.READ, request[1])], first)


def _mget(view: View, request: Request) -> Reply:
    return [view.get(key) for key in request[1:]]


def _strlen(view: View, request: Request) -> Reply:
    return len(view.get(request[1]) or b"")


def _getrange(view: View, request: Request) -> Reply:
    _, key, begin, end = request
    first_, last = integer(begin), integer(end)
    value = view.get(key) or b""
    if first_ < 0 and last < 0 and first_ > last:
        return b""
    if first_ < 0:
        first_ = max(0, first_ + len(value))
    if last < 0:
        last = max(0, last + len(value))
    return bytes(value)[first_ : last + 1]


# -- changing ------------------------------------------------------------------------------------------------


def _append(view: View, request: Request) -> Reply:
    _, key, suffix = request
    value = (view.get(key) or b"") + suffix
    view.set(key, value, KEEP)
    return len(value)


def _plan_append(request: Request, _now: int) -> Plan:
    _, key, suffix = request
    return Plan([Command(Operation.APPEND, key, suffix)], first)


def _setrange(view: View, request: Request) -> Reply:
    _, key, text, part = request
    offset = integer(text)
    if offset < 0:
        raise RedisError("ERR offset is out of range")
    value = view.get(key) or b""
    if not part:
        return len(value)
    if offset + len(part) > view.most:
        raise RedisError(TOO_LONG)
    view.set(key, value[:offset].ljust(offset, b"\0") + part + value[offset + len(part) :], KEEP)
    return len(view.get(key) or b"")


def _added(view: View, key: bytes, amount: int) -> Reply:
    value = view.get(key)
    total = (0 if value is None else integer(value)) + amount
    if not INTEGER_MIN <= total <= INTEGER_MAX:
        raise RedisError(OVERFLOW)
    view.set(key, b"%d" % total, KEEP)
    return total


def _amount(request: Request) -> int:
    """What INCR and its relatives add."""
    name = request[0].upper()
    if name == b"INCR":
        return 1
    if name == b"DECR":
        return -1
    number = integer(request[2])
    if name == b"INCRBY":
        return number
    if number == INTEGER_MIN:
        raise RedisError("ERR decrement would overflow")
    return -number


def _increment(view: View, request: Request) -> Reply:
    return _added(view, request[1], _amount(request))


def _plan_increment(request: Request, _now: int) -> Plan:
    return Plan([Command(Operation.INCREMENT, request[1], _amount(request))], first)


def _incrbyfloat(view: View, request: Request) -> Reply:
    _, key, increment = request
    value = view.get(key)
    total = add_floats(b"0" if value is None else bytes(value), increment)
    view.set(key, total, KEEP)
    return total


def _getex(view: View, request: Request) -> Reply:
    key = request[1]
    value = view.get(key)
    if value is None:  # of an absent key the options are looked at, and no numbers
        _said("getex", request[2:])
        return None
    wanted = _options("getex", request[2:], view.milliseconds)
    if wanted.timed and (wanted.ttl is not None or view.left(key) is not None):
        _put(view, key, bytes(value), wanted.ttl)
    return value


def _plan_getex(request: Request, _: int) -> Plan | None:
    return _plan_get(request, _) if len(request) == 2 else None


# -- the table -----------------------------------------------------------------------------------------------


_define = Group("string").define

_define("get", 2, "readonly fast", "1.0.0", "Get the value of a key", _get, _plan_get)
_define("set", -3, "write denyoom", "1.0.0", "Set the string value of a key", _set, _plan_set)
_define(
    "setnx",
    3,
    "write denyoom fast",
    "1.0.0",
    "Set the value of a key, only if the key does not exist",
    _setnx,
    _plan_setnx,
)
_define(
    "getset",
    3,
    "write denyoom fast",
    "1.0.0",
    "Set the string value of a key and return its old value",
    _getset,
    _plan_getset,
)
_define(
    "getdel", 2, "write fast", "6.2.0", "Get the value of a key and delete the key", _getdel, _plan_getdel
)
_define(
    "getex",
    -2,
    "write fast",
    "6.2.0",
    "Get the value of a key and optionally set its expiration",
    _getex,
    _plan_getex,
)
_define("mget", -2, "readonly fast", "1.0.0", "Get the values of all the given keys", _mget, places=ALL_KEYS)
_define(
    "mset", -3, "write denyoom", "1.0.1", "Set multiple keys to multiple values", _mset, _plan_mset, PAIRS
)
_define(
    "msetnx",
    -3,
    "write denyoom",
    "1.0.1",
    "Set multiple keys to multiple values, only if none of the keys exist",
    _msetnx,
    _plan_msetnx,
    PAIRS,
)
_define("strlen", 2, "readonly fast", "2.2.0", "Get the length of the value stored in a key", _strlen)
_define("append", 3, "write denyoom fast", "2.0.0", "Append a value to a key", _append, _plan_append)
_define("getrange", 4, "readonly", "2.4.0", "Get a substring of the string stored at a key", _getrange)
_define("substr", 4, "readonly", "1.0.0", "Get a substring of the string stored at a key", _getrange)
_define(
    "setrange",
    4,
    "write denyoom",
    "2.2.0",
    "Overwrite part of a string at key starting at the specified offset",
    _setrange,
)
for _name, _arity, _since, _summary in (
    ("incr", 2, "1.0.0", "Increment the integer value of a key by one"),
    ("decr", 2, "1.0.0", "Decrement the integer value of a key by one"),
    ("incrby", 3, "1.0.0", "Increment the integer value of a key by the given amount"),
    ("decrby", 3, "1.0.0", "Decrement the integer value of a key by the given number"),
):
    _define(_name, _arity, "write denyoom fast", _since, _summary, _increment, _plan_increment)
_define(
    "incrbyfloat",
    3,
    "write denyoom fast",
    "2.6.0",
    "Increment the float value of a key by the given amount",
    _incrbyfloat,
)
define(
    "setex",
    4,
    "write denyoom",
    ONE_KEY,
    "string",
    "2.0.0",
    "Set the value and expiration of a key",
    **_setex(b"EX"),
)
define(
    "psetex",
    4,
    "write denyoom",
    ONE_KEY,
    "string",
    "2.6.0",
    "Set the value and expiration in milliseconds of a key",
    **_setex(b"PX"),
)
