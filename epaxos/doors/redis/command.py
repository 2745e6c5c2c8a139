"""COMMAND: what the commands of the door are, for clients that ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epaxos.doors.redis.glob import matcher
from epaxos.doors.redis.resp import Map, Members, RedisError, Reply, Request
from epaxos.doors.redis.strings import SYNTAX
from epaxos.doors.redis.table import NO_KEYS, TABLE, Spec, define, define_help, look_up

if TYPE_CHECKING:
    from epaxos.doors.redis.connection import Connection


def _command(_: Connection, __: Request) -> Reply:
    return [_entry(spec) for spec in TABLE.values()]


def _command_count(_: Connection, __: Request) -> Reply:
    return len(TABLE)


def _command_info(_: Connection, request: Request) -> Reply:
    specs = [TABLE.get(name.lower()) for name in request[2:]] if len(request) > 2 else TABLE.values()
    return [None if spec is None else _entry(spec) for spec in specs]


def _entry(spec: Spec) -> Reply:
    flags: list[Reply] = [str(flag) for flag in sorted(spec.flags)]
    groups: list[Reply] = [f"@{name}" for name in sorted(_categories(spec))]
    subcommands = [_entry(sub) for sub in spec.subcommands.values()]
    places: list[Reply] = [*spec.places]
    return [
        spec.name.encode(),
        spec.arity,
        Members(flags),
        *places,
        Members(groups),
        Members([]),
        Members([]),
        subcommands,
    ]


def _command_list(_: Connection, request: Request) -> Reply:
    words = request[2:]
    if words and (len(words) != 3 or words[0].upper() != b"FILTERBY"):
        raise RedisError(SYNTAX)
    if not words:
        return [*TABLE]
    kind, what = words[1].upper(), words[2].lower()
    if kind == b"PATTERN":
        matches = matcher(what)
        return [name for name in TABLE if matches(name)]
    if kind == b"ACLCAT":
        return [name for name, spec in TABLE.items() if what.decode("latin-1") in _categories(spec)]
    if kind == b"MODULE":
        return []
    raise RedisError(SYNTAX)


def _categories(spec: Spec) -> set[str]:
    return {spec.group, "read" if spec.reads_only else "write"} if spec.places.first else {spec.group}


def _command_docs(_: Connection, request: Request) -> Reply:
    names = [name.lower() for name in request[2:]] or list(TABLE)
    return Map([(name, _docs(TABLE[name])) for name in names if name in TABLE])


def _docs(spec: Spec) -> Reply:
    facts: list[tuple[Reply, Reply]] = [
        (b"summary", spec.summary.encode()),
        (b"since", spec.since.encode()),
        (b"group", spec.group.encode()),
    ]
    return Map(facts)


def _command_getkeys(_: Connection, request: Request) -> Reply:
    asked = request[2:]
    spec = TABLE.get(asked[0].lower())
    if spec is None:
        raise RedisError("ERR Invalid command specified")
    if not spec.places.first:
        raise RedisError("ERR The command has no key arguments")
    try:
        keys = look_up(asked).keys(asked)
    except RedisError:
        raise RedisError("ERR Invalid number of arguments specified for command") from None
    return [*keys]


for _name, _arity, _since, _summary, _local in (
    ("command", -1, "2.8.13", "Get array of Redis command details", _command),
    ("command|count", 2, "2.8.13", "Get total number of Redis commands", _command_count),
    ("command|info", -2, "2.8.13", "Get array of specific Redis command details", _command_info),
    ("command|docs", -2, "7.0.0", "Get documentation of Redis commands", _command_docs),
    ("command|list", -2, "7.0.0", "Get the names of commands", _command_list),
    ("command|getkeys", -3, "2.8.13", "Extract keys given a full Redis command", _command_getkeys),
):
    define(_name, _arity, "loading stale", NO_KEYS, "server", _since, _summary, local=_local)
define_help("command", "server")
