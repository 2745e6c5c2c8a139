"""Making keys, and putting who has them on the lists: what `epaxos keys` does."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any, Final, NamedTuple

from epaxos.config import Config, show
from epaxos.config.kinds import Name
from epaxos.config.loading import parse_strictly, read_text
from epaxos.errors import ConfigError
from epaxos.security.access import CLIENTS_FILE, digest_of, list_text, read_clients
from epaxos.security.curve import make_key
from epaxos.security.keys import REPLICAS_FILE, SUFFIX, read_list, replicas_in, write_key

_HEADS: Final = {
    REPLICAS_FILE: "The public keys of the replicas: every replica and client needs this file.",
    CLIENTS_FILE: "The clients that are let in: replicas alone need this file (docs/security.md).",
}
_MODES: Final = {REPLICAS_FILE: 0o644, CLIENTS_FILE: 0o600}

ADMIN: Final = "admin"
"""The client that `init_keys` makes."""


class Listing(NamedTuple):
    """A client to be: see `security.access`."""

    role: str
    prefixes: Sequence[str] = ()
    password: str = ""


def init_keys(config: Config, directory: Path) -> list[str]:
    """Make what is missing of the keys of a cluster; see `make_keys`."""
    return make_keys([replica.name for replica in config.everybody], directory)


def make_keys(names: Iterable[str], directory: Path) -> list[str]:
    """Make what is missing of the keys of replicas of these names, and of an admin; what there is stays.

    Returns the names for which one was made.

    Raises:
        ConfigError: a file is wrong, or cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be made: {error.strerror}") from error
    with _alone(directory):
        return _make_missing(names, directory)


def _make_missing(names: Iterable[str], directory: Path) -> list[str]:
    replicas, clients = _read(directory, REPLICAS_FILE), _read(directory, CLIENTS_FILE)
    missing = [name for name in names if name not in replicas]
    for name in missing:
        replicas[name] = {"keys": [_make(directory, name)]}
    if not clients:
        clients[ADMIN] = {"role": ADMIN, "keys": [_make(directory, ADMIN)]}
        missing.append(ADMIN)
    _write(directory, REPLICAS_FILE, replicas)
    _write(directory, CLIENTS_FILE, clients)
    return missing


def add_client(
    directory: Path, name: str, client: Listing, *, token: bool = False, lasts: float | None = None
) -> str:
    """Put a client on the list: one with a key file, a bearer token or a password, for `lasts` seconds or for good.

    Returns the token, "" if it has none.

    Raises:
        ConfigError: the name is taken or none, a file is wrong or cannot be written.
    """
    entry: dict[str, Any] = {"role": client.role, "prefixes": list(client.prefixes)}
    made = secrets.token_urlsafe(32) if token else ""
    with _alone(directory):
        _check_free(directory, name)
        clients = _read(directory, CLIENTS_FILE)
        if token:
            entry["token"] = digest_of(made)
        elif client.password:
            entry["password"] = client.password
        else:
            entry["keys"] = [_make(directory, name)]
        clients[name] = entry | _until(lasts)
        _write(directory, CLIENTS_FILE, clients)
    read_clients(str(directory))
    return made


def add_replica(directory: Path, name: str, lasts: float | None = None) -> None:
    """Put a replica on the list that is about to join, for `lasts` seconds or for good, and make its key.

    Raises:
        ConfigError: the name is taken or none, a file is wrong or cannot be written.
    """
    with _alone(directory):
        _check_free(directory, name)
        replicas = _read(directory, REPLICAS_FILE)
        replicas[name] = {"keys": [_make(directory, name)], **_until(lasts)}
        _write(directory, REPLICAS_FILE, replicas)


def remove(directory: Path, name: str) -> None:
    """Take a client or replica from the lists, and remove its key file if that is here.

    Raises:
        ConfigError: it is on none, a file is wrong or cannot be written.
    """
    found = False
    with _alone(directory):
        for file in (REPLICAS_FILE, CLIENTS_FILE):
            entries = _read(directory, file)
            if entries.pop(name, None) is not None:
                found = True
                _write(directory, file, entries)
        if not found:
            raise ConfigError(f"{directory}: nobody on the lists is called {show(name)}")
        (directory / f"{name}{SUFFIX}").unlink(missing_ok=True)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let nobody else change the lists: what is read and then written would take back what they did."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be read: {error.strerror}") from error
    try:
        try:
            flock(descriptor, LOCK_EX)
        except OSError as error:
            raise ConfigError(f"{directory}: cannot be locked: {error.strerror}") from error
        yield
    finally:
        os.close(descriptor)


def _check_free(directory: Path, name: str) -> None:
    try:
        Name().read(name)
    except ValueError:
        raise ConfigError(f"name: found {show(name)}; allowed: {Name().allowed}") from None
    for file in (REPLICAS_FILE, CLIENTS_FILE):
        if name in _read(directory, file):
            raise ConfigError(
                f"{directory / file}: {name} is on the list; remove it first, or take another name"
            )


def _make(directory: Path, name: str) -> str:
    key = make_key()
    write_key(directory / f"{name}{SUFFIX}", name, key)
    return key.public


def _until(lasts: float | None) -> dict[str, datetime]:
    if lasts is None:
        return {}
    return {"until": datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=lasts)}


def _read(directory: Path, file: str) -> dict[str, Any]:
    path = directory / file
    return parse_strictly(read_text(str(path)), str(path)) if path.exists() else {}


def _write(directory: Path, file: str, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Put a list in the place of the one that is there: who reads it meanwhile reads either."""
    new = directory / f"{file}.new"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODES[file])
        with os.fdopen(descriptor, "w", encoding="utf-8") as written:
            written.write(list_text(_HEADS[file], entries))
        new.replace(directory / file)
    except OSError as error:
        raise ConfigError(f"{directory / file}: cannot be written: {error.strerror}") from error


def listed(directory: Path) -> list[dict[str, Any]]:
    """Who is on the lists, a row each: name, role, prefixes, what it comes in with, until when; no secrets.

    Raises:
        ConfigError: a list is wrong.
    """
    rows: list[dict[str, Any]] = []
    path = directory / REPLICAS_FILE
    replicas_in(read_list(path), str(path), ())
    read_clients(str(directory))
    for file in (REPLICAS_FILE, CLIENTS_FILE):
        for name, entry in _read(directory, file).items():
            until = entry.get("until")
            rows.append(
                {
                    "name": name,
                    "role": entry.get("role", "replica"),
                    "prefixes": entry.get("prefixes", []),
                    "with": [
                        *entry.get("keys", []),
                        *(way for way in ("token", "password") if entry.get(way)),
                    ],
                    "until": until.isoformat() if isinstance(until, datetime) else None,
                }
            )
    return rows
