"""Key files, and the list of the replicas' keys: all that a client needs to know.

A key is a pair of Curve25519 keys, 32 bytes each, written as 40 characters of Z85 (ZeroMQ RFC 32). Who holds the
secret one is who the public one stands for (CurveZMQ, RFC 26); a file holds both.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from epaxos.config import Config, show
from epaxos.config.loading import parse_strictly, read_text
from epaxos.errors import ConfigError

SUFFIX: Final = ".key"
"""How the names of key files end: the rest is whose they are."""

REPLICAS_FILE: Final = "replicas.toml"
"""The list of the replicas' public keys in the directory of keys: all who take part or come in need it."""

_Z85: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_LENGTH: Final = 40


class KeyPair(NamedTuple):
    """The key of one replica or client, in Z85."""

    public: str
    secret: str


def is_key(text: object) -> bool:
    """Whether this is a key in Z85: each five characters are the digits of a number of 32 bits."""
    if not isinstance(text, str) or len(text) != _LENGTH or not set(text) <= set(_Z85):
        return False
    return all(
        sum(_Z85.index(digit) * 85**power for power, digit in enumerate(reversed(text[at : at + 5]))) < 2**32
        for at in range(0, _LENGTH, 5)
    )


def write_secret(path: Path, text: str) -> None:
    """Write a new file that its owner alone can read.

    Raises:
        ConfigError: there is one, or it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    except FileExistsError as error:
        raise ConfigError(f"{path}: exists; a key is never written over: remove it first") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def write_key(path: Path, name: str, key: KeyPair) -> None:
    """Write the key file of `name`.

    Raises:
        ConfigError: there is one, or it cannot be written.
    """
    lines = (
        f"# The key of {name}: who has this file is {name} to the cluster.",
        f'public = "{key.public}"',
        f'secret = "{key.secret}"',
    )
    write_secret(path, "\n".join(lines) + "\n")


def read_key(path: str) -> KeyPair:
    """The key in a file.

    Raises:
        ConfigError: it cannot be read, others can read it too, or it holds no key.
    """
    check_private(path)
    content = parse_strictly(read_text(path), path)
    public, secret = content.get("public"), content.get("secret")
    if not (is_key(public) and is_key(secret)):
        raise ConfigError(
            f"{path}: found no key; allowed: `public` and `secret`, as `epaxos keys` writes them"
        )
    return KeyPair(str(public), str(secret))


def check_private(path: str) -> None:
    """See that nobody but its owner can read a secret.

    Raises:
        ConfigError: others can, or it cannot be read.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read: {reason}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{path}: found mode {stat.S_IMODE(mode):04o}, with which others can read or change it; allowed: 0600 or "
            "less; take it for known, and make a new key if others could have read it"
        )


def read_list(path: Path) -> dict[str, Any]:
    """The tables of a list.

    Raises:
        ConfigError: it cannot be read, is no TOML, or others than its owner can write it, or replace it.
    """
    for place, sticky in ((path.parent, stat.S_ISVTX), (path, 0)):
        try:
            mode = place.stat().st_mode
        except (OSError, ValueError):
            break  # reading it says why
        # In a directory with the sticky bit nobody can replace what another one owns.
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & sticky:
            raise ConfigError(
                f"{place}: found mode {stat.S_IMODE(mode):04o}, with which others could let anybody in; allowed: what "
                f"its owner alone can write (chmod go-w)"
            )
    return parse_strictly(read_text(str(path)), str(path))


class Login(NamedTuple):
    """With which key to log in, and which keys those have to whom: `servers`, one for each of some replicas.

    `find` tells the key of a replica that is none of them, by its name; None if it is not known.
    """

    key: KeyPair
    servers: Sequence[str]
    find: Callable[[str], str | None] = lambda _: None

    def __repr__(self) -> str:
        return f"Login({self.key.public})"


def client_login(config: Config, key: str | None) -> Login | None:
    """What a client logs in with, None if the cluster is open to anybody; `key` is its file, if not the configured one.

    The servers are the replicas, by row, and the observers behind them.

    Raises:
        ConfigError: files are wrong or missing, or there is a key and nothing to log in to.
    """
    security = config.security
    if not security.keys:
        if key is not None:
            raise ConfigError(f"{config.source}: security.keys: found none; a key ({show(key)}) needs it")
        return None
    known = read_replicas(config)
    servers = [known[replica.name][0] for replica in config.everybody]

    def find(name: str) -> str | None:
        """The list may have become longer since."""
        with suppress(ConfigError):
            return next(iter(read_replicas(config).get(name, ())), None)
        return None

    return Login(read_key(key if key is not None else security.key), servers, find)


def read_replicas(config: Config) -> dict[str, list[str]]:
    """The public keys of each replica and observer of the configuration, and of others on the list.

    The one to expect stands first.

    Raises:
        ConfigError: the list is wrong, or lacks a replica.
    """
    path = Path(config.security.keys) / REPLICAS_FILE
    return replicas_in(read_list(path), str(path), [one.name for one in config.everybody])


def replicas_in(tables: Mapping[str, Any], path: str, needed: Iterable[str]) -> dict[str, list[str]]:
    """The public keys of each replica in a list that is read already, from `path`.

    Raises:
        ConfigError: the list is wrong, or lacks one of those `needed`.
    """
    known = {name: keys_in(table, f"{path}: {name}") for name, table in tables.items()}
    for name in needed:
        if not known.get(name):
            raise ConfigError(
                f"{path}: {name}: missing; allowed: a table [{name}] with `keys` for each replica; "
                "`epaxos keys init` writes them, of nodes of registers `epaxos registers keys`"
            )
    return known


def keys_in(table: object, place: str) -> list[str]:
    """The public keys in a table of a list.

    Raises:
        ConfigError: they are none.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{place}: found {show(table)}; allowed: a table")
    keys = table.get("keys", [])
    if not isinstance(keys, list) or not all(map(is_key, keys)):
        raise ConfigError(f"{place}.keys: found something else; allowed: an array of public keys")
    return keys
