"""Commands and their results as JSON.

**Bytes in JSON** are a string where they are text (UTF-8), else an object: ``{"base64": "/w=="}``. A request may use
either; an answer uses the string wherever it can.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from sys import float_info
from typing import Any, Final, NamedTuple, NoReturn

from epaxos.client.commands import Op
from epaxos.client.results import CasResult
from epaxos.config.kinds import show
from epaxos.config.suggestion import advice
from epaxos.errors import Refused
from epaxos.statemachine.operations import INTEGER_MAX, INTEGER_MIN
from epaxos.web.api.problems import INVALID, Problem

_BASE64: Final = "base64"
_SHOWN: Final = 80
"""Characters of a name, at most, that is looked at for what was meant by it."""


def tell_bytes(value: bytes | None) -> Any:
    """Bytes as JSON has them, null where there are none."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {_BASE64: base64.b64encode(value).decode()}


def tell(result: object) -> Any:
    """What a command came to, as JSON has it."""
    if isinstance(result, CasResult):
        return {"swapped": result.swapped, "current": tell_bytes(result.current)}
    return tell_bytes(result) if isinstance(result, bytes) else result


def read_bytes(value: object, where: str) -> bytes:
    """Bytes out of JSON.

    Raises:
        Problem: they are none.
    """
    try:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict) and list(value) == [_BASE64] and isinstance(value[_BASE64], str):
            return base64.b64decode(value[_BASE64], validate=True)
    except (UnicodeEncodeError, binascii.Error):
        pass
    raise _wrong(where, value, 'a string, or {"base64": "…"}')


def _bytes_or_null(value: object, where: str) -> bytes | None:
    return None if value is None else read_bytes(value, where)


def _seconds(value: object, where: str) -> float:
    most = float_info.max  # JSON has integers beyond it
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise _wrong(where, value, "a number of seconds above 0")
    return float(value)


def _switch(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, value, "true or false")
    return value


def _amount(value: object, where: str) -> int:
    if type(value) is not int or not INTEGER_MIN <= value <= INTEGER_MAX:
        raise _wrong(where, value, "an integer from -2**63 to 2**63 - 1")
    return value


_READERS: Final[Mapping[str, Callable[[object, str], Any]]] = {
    "key": read_bytes,
    "value": read_bytes,
    "expected": _bytes_or_null,
    "new": _bytes_or_null,
    "ttl": _seconds,
    "keep_ttl": _switch,
    "amount": _amount,
}
"""What reads each field of a command."""


class Form(NamedTuple):
    """A command in JSON: what makes it of its fields, those that it needs and those that it may have; what it does."""

    make: Callable[..., Op]
    needs: tuple[str, ...]
    may: tuple[str, ...]
    does: str


FORMS: Final[Mapping[str, Form]] = {
    "get": Form(Op.get, ("key",), (), "Read the value of a key; null where there is none."),
    "exists": Form(Op.exists, ("key",), (), "Read whether a key has a value."),
    "put": Form(
        Op.put,
        ("key", "value"),
        ("ttl", "keep_ttl"),
        "Set a value, which ends after `ttl` seconds, or when the one before would have.",
    ),
    "write_read": Form(Op.write_read, ("key", "value"), (), "Set a value; the result is the one before."),
    "delete": Form(Op.delete, ("key",), (), "Remove a key; the result says whether there was one."),
    "cas": Form(
        Op.cas,
        ("key", "expected", "new"),
        (),
        "Set a value to `new` (null: remove it) if it is `expected` (null: if there is none).",
    ),
    "expect": Form(Op.expect, ("key", "value"), (), "Only compare."),
    "absent": Form(Op.absent, ("key",), (), "Only compare: there must be no value."),
    "increment": Form(
        Op.increment, ("key",), ("amount",), "Add to the number under a key; the result is the new one."
    ),
    "append": Form(
        Op.append,
        ("key", "value"),
        (),
        "Add to the end of a value; the result is the new length.",
    ),
    "expire": Form(
        Op.expire, ("key", "ttl"), (), "Let a value end after `ttl` seconds; says whether there is one."
    ),
    "persist": Form(
        Op.persist, ("key",), (), "Let a value not end; says whether there is one that would have."
    ),
}
"""The commands that JSON can hold."""


def read_command(given: object, where: str, key: bytes | None = None) -> Op:
    """A command out of JSON; with `key`, that is the key, and the object has none.

    `where` is the place of the object, for the text of an error.

    Raises:
        Problem: it is none.
    """
    fields = _object(given, where)
    name = fields.pop("op", None)
    form = FORMS.get(name) if isinstance(name, str) else None
    if form is None:
        raise _wrong(f"{where}.op", name, f"one of {', '.join(FORMS)}")
    needs = form.needs if key is None else form.needs[1:]
    for field in fields:
        if field not in {*needs, *form.may}:
            advised = advice(field[:_SHOWN], (*needs, *form.may))
            raise Problem(INVALID, f"{where}: unknown field {show(field)}; {advised}")
    missing = [field for field in needs if field not in fields]
    if missing:
        raise Problem(INVALID, f"{where}: {name} needs {', '.join(needs)}; {', '.join(missing)} is missing")
    read = {field: _READERS[field](value, f"{where}.{field}") for field, value in fields.items()}
    if key is not None:
        read["key"] = key
    try:
        return form.make(*[read.pop(field) for field in form.needs], **read)
    except Refused as error:
        raise Problem(INVALID, f"{where}: {error}") from error


def read_json(body: bytes) -> Any:
    """What JSON says.

    Raises:
        Problem: it is none.
    """
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Problem(INVALID, f"the body is no JSON: {error}") from error


def read_operations(body: bytes) -> list[Op]:
    """The operations of a multi.

    Raises:
        Problem: they are none.
    """
    fields = _object(read_json(body), "body")
    operations = fields.get("operations")
    if len(fields) != 1 or not isinstance(operations, list) or not operations:
        raise Problem(INVALID, 'body: allowed: {"operations": […]}, with one operation or more')
    return [read_command(given, f"operations[{index}]") for index, given in enumerate(operations)]


def _object(given: object, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise _wrong(where, given, "an object")
    return dict(given)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _wrong(where: str, found: object, allowed: str) -> Problem:
    shown = "nothing" if found is None else show(found)
    return Problem(INVALID, f"{where}: found {shown}; allowed: {allowed}")
