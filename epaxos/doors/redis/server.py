"""The commands that are about a connection or the server, and change nothing in the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from epaxos.doors.redis.glob import matcher
from epaxos.doors.redis.notices import forget
from epaxos.doors.redis.numbers import integer
from epaxos.doors.redis.resp import Map, RedisError, Reply, Request, Text
from epaxos.doors.redis.strings import SYNTAX
from epaxos.doors.redis.table import (
    ALL_KEYS,
    NO_AUTH,
    NO_KEYS,
    KeyPlaces,
    Local,
    define,
    define_container,
)
from epaxos.doors.redis.transaction import Transaction
from epaxos.version import __version__

if TYPE_CHECKING:
    from epaxos.doors.redis.connection import Connection

VERSION: Final = "7.0.15"
"""The Redis that is compared with (`tools/redis-differential`)."""

_AUTH_UNSET: Final = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
_AUTH_WRONG: Final = "WRONGPASS invalid username-password pair or user is disabled."


# -- connections ---------------------------------------------------------------------------------------------


def _ping(connection: Connection, request: Request) -> Reply:
    if len(request) > 2:
        raise RedisError("ERR wrong number of arguments for 'ping' command")
    if connection.is_subscriber:
        return [b"pong", *(request[1:] or [b""])]
    return request[1] if len(request) == 2 else "PONG"


def _echo(_: Connection, request: Request) -> Reply:
    return request[1]


def _auth(connection: Connection, request: Request) -> Reply:
    if len(request) > 3:
        raise RedisError(SYNTAX)
    if connection.door.passwords is not None:
        name = request[1] if len(request) == 3 else b"default"
        _log_in(connection, name.decode(errors="replace"), request[-1].decode(errors="replace"))
        return "OK"
    if len(request) == 2:
        raise RedisError(_AUTH_UNSET)
    if request[1] != b"default":
        raise RedisError(_AUTH_WRONG)
    return "OK"


def _log_in(connection: Connection, name: str, password: str) -> None:
    door = connection.door
    assert door.passwords is not None
    found = door.passwords.check(name, password, connection.address, door.monotonic())
    if isinstance(found, float):
        raise RedisError(_AUTH_WRONG)
    connection.user = name, door.passwords.hashed(name)


def _hello(connection: Connection, request: Request) -> Reply:
    version, name = connection.version, None
    if len(request) > 1:
        try:
            version = integer(request[1])
        except RedisError:
            raise RedisError("ERR Protocol version is not an integer or out of range") from None
        if version not in (2, 3):
            raise RedisError("NOPROTO unsupported protocol version")
    words = iter(request[2:])
    left = len(request) - 2
    for word in words:
        left -= 1
        if word.upper() == b"AUTH" and left >= 2:
            _auth(connection, [b"auth", next(words), next(words)])
            left -= 2
        elif word.upper() == b"SETNAME" and left >= 1:
            name = _checked_name(next(words))
            left -= 1
        else:
            raise RedisError(f"ERR Syntax error in HELLO option '{word.decode('latin-1')}'")
    if connection.rights is None:
        raise RedisError(NO_AUTH)
    connection.version = version
    if name is not None:
        connection.name = name
    facts: list[tuple[Reply, Reply]] = [
        (b"server", b"redis"),
        (b"version", VERSION.encode()),
        (b"proto", version),
        (b"id", connection.id),
        (b"mode", b"standalone"),
        (b"role", b"master"),
        (b"modules", []),
    ]
    return Map(facts)


def _quit(connection: Connection, _: Request) -> Reply:
    connection.close("OK")
    return None


def _reset(connection: Connection, _: Request) -> Reply:
    connection.user = "", ""
    connection.transaction = None
    connection.watched.end()
    forget(connection)
    connection.version = 2
    connection.name = b""
    connection.reads_here = False
    return "RESET"


def _select(_: Connection, request: Request) -> Reply:
    if integer(request[1]) != 0:
        raise RedisError("ERR DB index is out of range")
    return "OK"


def _readonly(connection: Connection, _: Request) -> Reply:
    connection.reads_here = True
    return "OK"


def _readwrite(connection: Connection, _: Request) -> Reply:
    connection.reads_here = False
    return "OK"


def _checked_name(name: bytes) -> bytes:
    if not all(33 <= byte <= 126 for byte in name):
        raise RedisError("ERR Client names cannot contain spaces, newlines or special characters.")
    return name


def _client_id(connection: Connection, _: Request) -> Reply:
    return connection.id


def _client_getname(connection: Connection, _: Request) -> Reply:
    return connection.name or None


def _client_setname(connection: Connection, request: Request) -> Reply:
    connection.name = _checked_name(request[2])
    return "OK"


def _client_setinfo(connection: Connection, request: Request) -> Reply:
    _, _, what, value = request
    attribute = {b"LIB-NAME": "library", b"LIB-VER": "library_version"}.get(what.upper())
    if attribute is None:
        raise RedisError(f"ERR Unrecognized option '{what.decode('latin-1')}'")
    if not all(33 <= byte <= 126 for byte in value):
        name = what.decode("latin-1").lower()
        raise RedisError(f"ERR {name} cannot contain spaces, newlines or special characters.")
    setattr(connection, attribute, value)
    return "OK"


def _client_info(connection: Connection, _: Request) -> Reply:
    return Text(_described(connection) + "\n")


def _client_list(connection: Connection, request: Request) -> Reply:
    chosen = sorted(connection.door.connections, key=lambda one: one.id)
    options = request[2:]
    if options and options[0].upper() == b"ID" and len(options) > 1:
        wanted = {_client_number(text) for text in options[1:]}
        chosen = [one for one in chosen if one.id in wanted]
    elif options and options[0].upper() == b"TYPE" and len(options) == 2:
        kind = options[1].lower()
        if kind not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
            raise RedisError(f"ERR Unknown client type '{options[1].decode('latin-1')}'")
        chosen = [one for one in chosen if kind == (b"pubsub" if _subscribes(one) else b"normal")]
    elif options:
        raise RedisError(SYNTAX)
    return Text("".join(_described(one) + "\n" for one in chosen))


def _subscribes(connection: Connection) -> bool:
    return bool(connection.channels or connection.patterns)


def _client_number(text: bytes) -> int:
    try:
        return integer(text)
    except RedisError:
        raise RedisError("ERR Invalid client ID") from None


def _client_no_evict(_: Connection, request: Request) -> Reply:
    if request[2].upper() not in (b"ON", b"OFF"):
        raise RedisError(SYNTAX)
    return "OK"


def _described(connection: Connection) -> str:
    here, there = (connection.transport.get_extra_info(name) for name in ("sockname", "peername"))
    transaction = connection.transaction
    facts = {
        "id": connection.id,
        "addr": _place(there),
        "laddr": _place(here),
        "fd": -1,
        "name": connection.name.decode(),
        "age": int(connection.door.monotonic() - connection.since),
        "idle": 0,
        "flags": "x" if transaction is not None else "P" if _subscribes(connection) else "N",
        "db": 0,
        "sub": len(connection.channels),
        "psub": len(connection.patterns),
        "multi": -1 if transaction is None else len(transaction.queued),
        "cmd": connection.last,
        "user": connection.user[0] or "default",
        "resp": connection.version,
        "lib-name": connection.library.decode(),
        "lib-ver": connection.library_version.decode(),
    }
    return " ".join(f"{name}={value}" for name, value in facts.items())


def _place(address: tuple[object, ...] | None) -> str:
    return "?:0" if address is None else f"{address[0]}:{address[1]}"


# -- transactions --------------------------------------------------------------------------------------------


def _multi(connection: Connection, _: Request) -> Reply:
    if connection.transaction is not None:
        raise RedisError("ERR MULTI calls can not be nested")
    connection.transaction = Transaction()
    return "OK"


def _discard(connection: Connection, _: Request) -> Reply:
    if connection.transaction is None:
        raise RedisError("ERR DISCARD without MULTI")
    connection.transaction = None
    connection.watched.end()
    return "OK"


def _unwatch(connection: Connection, _: Request) -> Reply:
    connection.watched.end()
    return "OK"


# -- the server ----------------------------------------------------------------------------------------------


def _time(connection: Connection, _: Request) -> Reply:
    seconds, micros = divmod(connection.door.microseconds(), 1_000_000)
    return [b"%d" % seconds, b"%d" % micros]


def _wait(connection: Connection, request: Request) -> Reply:
    integer(request[1])
    try:
        timeout = integer(request[2])
    except RedisError:
        raise RedisError("ERR timeout is not an integer or out of range") from None
    if timeout < 0:
        raise RedisError("ERR timeout is negative")
    return connection.door.replicas - 1


def _settings(connection: Connection) -> dict[str, str]:
    door = connection.door
    return {
        "appendfsync": "always" if door.config.storage.sync == "always" else "everysec",
        "appendonly": "no" if door.config.storage.engine == "memory" else "yes",
        "databases": "1",
        "maxclients": str(door.most),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "notify-keyspace-events": "AKE",
        "proto-max-bulk-len": str(door.bulk),
        "save": "",
        "timeout": "0",
    }


def _config_get(connection: Connection, request: Request) -> Reply:
    patterns = [matcher(pattern.lower()) for pattern in request[2:]]
    return Map(
        [
            (name.encode(), value.encode())
            for name, value in _settings(connection).items()
            if any(matches(name.encode()) for matches in patterns)
        ]
    )


_EVENT_CLASSES: Final = b"Ag$lshzxeKEtmdn"


def _config_set(connection: Connection, request: Request) -> Reply:
    """Which events are told cannot be chosen, all are: who wants some of them may say so. All else is as it is."""
    known = _settings(connection)
    if len(request) % 2:
        raise RedisError("ERR wrong number of arguments for 'config|set' command")
    for name, value in zip(request[2::2], request[3::2], strict=True):
        said = name.decode("latin-1")
        if said.lower() not in known:
            raise RedisError(f"ERR Unknown option or number of arguments for CONFIG SET - '{said}'")
        wrong = "can't set immutable config"
        if said.lower() == "notify-keyspace-events":
            wrong = ""
            if not set(value) <= set(_EVENT_CLASSES):
                wrong = f"Invalid event class character. Use '{_EVENT_CLASSES.decode()}'."
        if wrong:
            raise RedisError(f"ERR CONFIG SET failed (possibly related to argument '{said}') - {wrong}")
    return "OK"


def _role(_: Connection, __: Request) -> Reply:
    return [b"master", 0, []]


def _info(connection: Connection, request: Request) -> Reply:
    door = connection.door
    sections: dict[str, dict[str, object]] = {
        "Server": {
            "redis_version": VERSION,
            "epaxos_version": __version__,
            "redis_mode": "standalone",
            "process_id": os.getpid(),
            "tcp_port": door.port,
            "server_time_usec": door.microseconds(),
            "uptime_in_seconds": int(door.monotonic() - door.since),
        },
        "Clients": {"connected_clients": len(door.connections), "maxclients": door.most},
        "Persistence": {"loading": 0, "aof_enabled": int(door.config.storage.engine != "memory")},
        "Stats": {
            "total_connections_received": door.counts["connections"],
            "total_commands_processed": door.counts["commands"],
            "rejected_connections": door.counts["rejected"],
            "epaxos_protocol_errors": door.counts["protocol_errors"],
            "epaxos_cut_connections": door.counts["cut"],
        },
        "Replication": {"role": "master", "connected_slaves": 0, "epaxos_replicas": door.replicas},
        "Cluster": {"cluster_enabled": 0},
        "Keyspace": {"db0": f"keys={keys},expires=0,avg_ttl=0"} if (keys := door.keys()) else {},
    }
    wanted = {word.decode("latin-1").lower() for word in request[1:]} or {"default"}
    everything = not wanted.isdisjoint({"default", "all", "everything"})
    return Text(
        "\r\n".join(
            f"# {title}\r\n" + "".join(f"{name}:{value}\r\n" for name, value in facts.items())
            for title, facts in sections.items()
            if everything or title.lower() in wanted
        )
    )


# -- the table -----------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A command of this module."""

    name: str
    arity: int
    since: str
    summary: str
    local: Local | None
    flags: str = "loading stale"
    alone: bool = False
    places: KeyPlaces = NO_KEYS


_ROWS: Final = {
    "connection": (
        _Row("ping", -1, "1.0.0", "Ping the server", _ping, "fast"),
        _Row("echo", 2, "1.0.0", "Echo the given string", _echo, "fast"),
        _Row("auth", -2, "1.0.0", "Authenticate to the server", _auth, "fast"),
        _Row("hello", -1, "6.0.0", "Handshake with Redis", _hello, "fast", alone=True),
        _Row("quit", -1, "1.0.0", "Close the connection", _quit, "fast", alone=True),
        _Row("reset", 1, "6.2.0", "Reset the connection", _reset, "fast", alone=True),
        _Row("select", 2, "1.0.0", "Change the selected database: there is number 0", _select, "fast"),
        _Row("readonly", 1, "3.0.0", "Read from this replica alone from now on", _readonly, "fast"),
        _Row("readwrite", 1, "3.0.0", "Read what is up to date again", _readwrite, "fast"),
        _Row("client|id", 2, "5.0.0", "Returns the client ID for the current connection", _client_id),
        _Row("client|getname", 2, "2.6.9", "Get the current connection name", _client_getname),
        _Row("client|setname", 3, "2.6.9", "Set the current connection name", _client_setname),
        _Row("client|setinfo", 4, "7.2.0", "Set the name of the client's library", _client_setinfo),
        _Row("client|list", -2, "2.4.0", "Get the list of client connections", _client_list),
        _Row("client|info", 2, "6.2.0", "Returns information about the current connection", _client_info),
        _Row("client|no-evict", 3, "7.0.0", "Without effect: nobody is evicted", _client_no_evict),
    ),
    "server": (
        _Row("time", 1, "2.6.0", "Return the current server time", _time),
        _Row("info", -1, "1.0.0", "Get information and statistics about the server", _info),
        _Row("role", 1, "2.8.12", "Tell that all replicas take writes", _role, "fast"),
        _Row("config|set", -4, "2.0.0", "Set what is so already", _config_set),
        _Row("config|get", -3, "2.0.0", "Get the values of configuration parameters", _config_get),
    ),
    "generic": (_Row("wait", 3, "3.0.0", "Tells how many replicas there are beside this one", _wait, ""),),
    "transactions": (
        _Row("multi", 1, "1.2.0", "Mark the start of a transaction block", _multi, "fast"),
        _Row("exec", 1, "1.2.0", "Execute all commands issued after MULTI", None, alone=True),
        _Row("discard", 1, "2.0.0", "Discard all commands issued after MULTI", _discard, "fast"),
        _Row("watch", -2, "2.2.0", "Let EXEC fail if these keys change", None, "fast", True, ALL_KEYS),
        _Row("unwatch", 1, "2.2.0", "Forget about all watched keys", _unwatch, "fast"),
    ),
}
define_container("client", "connection", "2.4.0", "A container for commands about connections")
define_container("config", "server", "2.0.0", "A container for configuration commands")
for _group, _rows in _ROWS.items():
    for _row in _rows:
        _name, _arity, _since, _summary, _local, _flags, _alone, _places = _row
        define(_name, _arity, _flags, _places, _group, _since, _summary, local=_local, alone=_alone)
