"""The lists of those who are let in, as they stand in the directory of keys, and as they are looked up.

`replicas.toml` has a table for each replica, `clients.toml` one for each client: only replicas need the latter.

    [alpha]
    keys = ["…"]

    [web]
    role = "write"                    # or "read" or "admin"
    prefixes = ["web/"]               # the keys of the store that are its own; all, if this is left out
    keys = ["…"]                      # the public ones of its key files
    token = "…"                       # SHA-256 of a bearer token for HTTP
    password = "$argon2id$…"          # of AUTH at the Redis door
    until = 2030-01-01T00:00:00Z      # when all that ends; never, if this is left out
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from math import inf
from pathlib import Path
from typing import Any, Final, Self

from epaxos.config import Config, show
from epaxos.config.kinds import Name
from epaxos.errors import ConfigError
from epaxos.security.keys import REPLICAS_FILE, SUFFIX, KeyPair, keys_in, read_key, read_list, replicas_in
from epaxos.security.rights import Rights, Role

CLIENTS_FILE: Final = "clients.toml"

_CLIENT_KEYS: Final = frozenset({"role", "prefixes", "keys", "token", "password", "until"})
_REPLICA_KEYS: Final = frozenset({"keys", "until"})
_ROLES: Final = {role.name.lower(): role for role in Role}


@dataclass(frozen=True, slots=True)
class Client:
    """What `clients.toml` says of a client."""

    rights: Rights
    keys: tuple[str, ...] = ()
    token: str = ""
    password: str = ""


class Access:
    """Who may come in at one replica: looked up for every frame, and read again by `reload`.

    So who is taken from a list loses all rights at once, on connections that stand too.

    directory  of keys
    name  of the replica itself
    everybody  the names of those who must be on the list when this begins
    own  the key with which the replica itself comes in elsewhere, and by which it is known here

    Raises:
        ConfigError: a list or the key file is wrong.
    """

    def __init__(
        self, directory: str, name: str, everybody: Sequence[str], clock: Callable[[], float] = time.time
    ) -> None:
        self._directory = Path(directory)
        self._name = name
        self._clock = clock
        self.own: KeyPair = read_key(str(self._directory / f"{name}{SUFFIX}"))
        self._servers: Mapping[str, list[str]] = {}
        self._replicas: Mapping[str, Rights] = {}
        self._keys: Mapping[str, Rights] = {}
        self._clients: Mapping[str, Client] = {}
        self._tokens: Mapping[str, Rights] = {}
        self._read(everybody)

    @classmethod
    def of(cls, config: Config, name: str, clock: Callable[[], float] = time.time) -> Self:
        """That of a replica of a cluster."""
        return cls(config.security.keys, name, [replica.name for replica in config.everybody], clock)

    def reload(self) -> None:
        """Read the lists again; if they are wrong, those of before stay.

        Other replicas may be missing, as one has to be whose key was stolen: then nobody is that one.

        Raises:
            ConfigError: they are.
        """
        self._read([self._name])

    def _read(self, needed: Sequence[str]) -> None:
        directory = self._directory
        path = directory / REPLICAS_FILE
        tables = read_list(path)  # once: the file may be another one the next moment
        servers = replicas_in(tables, str(path), needed)
        replicas = {
            key: Rights(name, Role.ADMIN, (), _until(tables[name], f"{path}: {name}", _REPLICA_KEYS))
            for name, keys in servers.items()
            for key in keys
        }
        if servers[self._name][0] != self.own.public:
            file = directory / f"{self._name}{SUFFIX}"
            raise ConfigError(
                f"{path}: {self._name}.keys: the first is not that of {file}, with which it runs"
            )
        clients = read_clients(str(directory))
        owners: dict[str, str] = {}
        for kind, name, keys in (
            *(("replica", name, keys) for name, keys in servers.items()),
            *(("client", name, list(client.keys)) for name, client in clients.items()),
        ):
            for key in keys:
                owner = owners.setdefault(key, f"{kind} {name}")
                if owner != f"{kind} {name}":
                    raise ConfigError(f"{directory}: {kind} {name} and {owner} have the same key {key}")
        self._servers, self._replicas, self._clients = servers, replicas, clients
        self._keys = replicas | {key: client.rights for client in clients.values() for key in client.keys}
        self._tokens = {client.token: client.rights for client in clients.values() if client.token}

    def server_key(self, name: str) -> str:
        """The public key that the replica called `name` is expected to have; "" if nobody is that one now."""
        return next(iter(self._servers.get(name, ())), "")

    def replica(self, key: str) -> str:
        """The name of the replica that has this public key; "" if none has it, or not any more."""
        rights = self._replicas.get(key)
        return "" if rights is None or rights.until <= self._clock() else rights.name

    def rights(self, key: str) -> Rights | None:
        """What the client or replica with this public key may do; None if it is on no list, or not any more."""
        return self._valid(self._keys.get(key))

    def by_token(self, token: str) -> Rights | None:
        """What the client with this bearer token may do; None if there is none."""
        return self._valid(self._tokens.get(digest_of(token)))

    def client(self, name: str) -> Client | None:
        """The client of this name; None if there is none, or not any more."""
        found = self._clients.get(name)
        return found if found is not None and self._valid(found.rights) else None

    def _valid(self, rights: Rights | None) -> Rights | None:
        return rights if rights is not None and self._clock() < rights.until else None


def digest_of(token: str) -> str:
    """What the list has in the place of a token: 256 bits by chance need no slow hash."""
    return sha256(token.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two secrets are equal, in a time that tells nothing of where they differ."""
    return compare_digest(one.encode(), other.encode())


def read_clients(directory: str) -> dict[str, Client]:
    """The clients on the list in a directory of keys.

    Raises:
        ConfigError: it is wrong, in the first place that it names.
    """
    path = Path(directory) / CLIENTS_FILE
    tables = read_list(path)
    return {name: _client(name, table, f"{path}: {show(name)[1:-1]}") for name, table in tables.items()}


def _client(name: str, table: Any, place: str) -> Client:
    keys = keys_in(table, place)
    try:
        Name().read(name)
    except ValueError:
        raise ConfigError(f"{place}: the name of a client; allowed: {Name().allowed}") from None
    until = _until(table, place, _CLIENT_KEYS)
    role, prefixes = table.get("role"), table.get("prefixes", [])
    if not isinstance(role, str) or role not in _ROLES:
        found = "none" if role is None else show(role)
        raise ConfigError(f"{place}.role: found {found}; allowed: {', '.join(map(show, _ROLES))}")
    if not isinstance(prefixes, list) or not all(isinstance(prefix, str) and prefix for prefix in prefixes):
        raise ConfigError(
            f"{place}.prefixes: found something else; allowed: an array of texts that are not empty"
        )
    if "prefixes" in table and not prefixes:
        raise ConfigError(
            f"{place}.prefixes: found none; allowed: one or more; leave the key out to allow all keys"
        )
    secrets = [table.get(secret, "") for secret in ("token", "password")]
    if not all(isinstance(secret, str) for secret in secrets):
        raise ConfigError(
            f"{place}: token, password: found something else; allowed: what `epaxos keys` writes"
        )
    rights = Rights(name, _ROLES[role], tuple(prefix.encode() for prefix in prefixes), until)
    return Client(rights, tuple(keys), *secrets)


def _until(table: Mapping[str, Any], place: str, allowed: frozenset[str]) -> float:
    unknown = sorted(table.keys() - allowed)
    if unknown:
        raise ConfigError(
            f"{place}: found {', '.join(map(show, unknown))}; allowed: {', '.join(sorted(allowed))}"
        )
    until = table.get("until", inf)
    if isinstance(until, datetime) and until.tzinfo is not None:
        return until.timestamp()
    if until != inf:
        raise ConfigError(
            f"{place}.until: found {show(until)}; allowed: a time with its zone, like 2030-01-01T00:00:00Z"
        )
    return inf


# -- writing -------------------------------------------------------------------------------------------------


def list_text(head: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """A list as a file: a table for each name, with the values that are not empty."""
    return "\n".join(_lines(head, entries)) + "\n"


def _lines(head: str, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"# {head}"
    for name, entry in entries.items():
        yield ""
        yield f"[{name}]" if name.replace("-", "").replace("_", "").isalnum() else f'["{name}"]'
        for key, value in entry.items():
            if value:
                yield f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return '"' + "".join(f"\\u{ord(c):04x}" if c < " " or c in '"\\\x7f' else c for c in str(value)) + '"'
