"""From a path, or the places where a configuration is looked for, to a `Config`."""

from __future__ import annotations

import codecs
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import toml

from epaxos.config.defaults import default_replicas
from epaxos.config.keys import REPLICAS, VARIABLES
from epaxos.config.model import Config, SecurityConfig
from epaxos.config.settings import FILE_VARIABLE
from epaxos.config.validation import make_config
from epaxos.errors import ConfigError

LONGEST_FILE: Final = 256 * 1024
"""Bytes; a configuration has some thousand, so more is another kind of file, or a device without an end."""

_VARIABLE_OF: Final = {key.path: name for name, key in VARIABLES.items()}

_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Marks with which some editors begin a file."""

_LOCATION: Final = re.compile(r" \(at (line \d+, column \d+|end of document)\)$")


def load_config(path: str | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read, validate and complete the configuration.

    The file is `path`; without one the file that the variable EPAXOS_CONFIG names; else the first of
    epaxos.toml in the working directory, ~/.epaxos.toml and /etc/epaxos.toml that exists; else there is none.
    Keys that it does not have get their defaults, the replicas too (three on this machine). EPAXOS_ variables
    override both. A relative path is taken from where the file is, or from the working directory if there is none or a
    variable says it; those of [security] from `security.keys`.

    Raises:
        ConfigError: the file cannot be read, or something is wrong in it or in the environment; one line
            for each problem, which says where it is, what was found and what is allowed.
    """
    file = path if path is not None else find_file(environ)
    document = {} if file is None else read_file(file)
    document.setdefault(REPLICAS, default_replicas())
    config = make_config(document, "defaults" if file is None else file, environ)
    beside = None if file is None else Path(file).parent

    def settle(path: str, place: str, parent: Path | None) -> str:
        return _settled(place, None if _VARIABLE_OF[path] in environ else parent)

    directory = settle("storage.directory", config.storage.directory, beside)
    security = config.security
    if security.keys:
        keys = Path(settle("security.keys", security.keys, beside))
        security = SecurityConfig(
            str(keys),
            settle("security.key", security.key, keys),
            security.certificate and settle("security.certificate", security.certificate, keys),
        )
    return replace(config, storage=replace(config.storage, directory=directory), security=security)


def _settled(path: str, parent: Path | None) -> str:
    """Where a path leads, wherever the process that asks was started: beside the file that names it.

    A variable, like what is typed, means the working directory.
    """
    try:
        return str((parent or Path()).absolute() / path)
    except OSError:  # the working directory has been removed; only who needs the data has to know
        return path


def find_file(environ: Mapping[str, str]) -> str | None:
    """The file to use where the user names none on the command line; None if there is none.

    A file that exists but cannot be read is found too: silently taking the next one would surprise.
    """
    named = environ.get(FILE_VARIABLE)
    if named:
        return named
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - never raises, unlike Path.home
    places = ("epaxos.toml", os.path.join(home, ".epaxos.toml"), "/etc/epaxos.toml")  # noqa: PTH118 - text
    return next((place for place in places if os.path.lexists(place)), None)


def read_file(path: str) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ConfigError: it cannot be read, is too large, or is not TOML (with the line).
    """
    return parse_toml(read_text(path), path)


def read_text(path: str) -> str:
    """The text of a TOML file.

    Raises:
        ConfigError: it cannot be read, is too large, or is not in UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a path with a null byte
        raise ConfigError(f"{path!r}: cannot be read: {error}") from error
    if len(content) > LONGEST_FILE:
        raise ConfigError(f"{path}: larger than a configuration may be: {LONGEST_FILE} bytes")
    if content[:2] in _UTF_16:
        raise ConfigError(f"{path}: line 1: not TOML: the file is in UTF-16; save it in UTF-8")
    try:
        return content.decode(
            "utf-8-sig"
        )  # some editors begin a file with a mark that says how it is encoded
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}: line {line}: not TOML: byte 0x{content[error.start]:02x} is not UTF-8"
        ) from error


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """The content of a TOML document; `source` names it in messages.

    Raises:
        ConfigError: it is not TOML (with the line).
    """
    parse_strictly(text, source)
    try:
        return toml.loads(text)
    except Exception as error:  # its scanner also lets IndexError, TypeError and others through
        raise ConfigError(f"{source}: TOML that the toml package cannot read: {error}") from error


def parse_strictly(text: str, source: str) -> dict[str, Any]:
    """The content of a TOML document by the standard library's strict parser.

    The toml package takes some texts that are not TOML (a stray backslash, `a == 1`) and does not name the
    line of every mistake in others.

    Raises:
        ConfigError: it is not TOML (with the line).
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{source}: not TOML that can be read: nested too deeply") from error
    except ValueError as error:
        message = str(error)
        location = _LOCATION.search(message)
        if location is None:
            raise ConfigError(f"{source}: not TOML that can be read: {message}") from error
        last = text.rstrip("\n").count("\n") + 1
        place = location[1].replace("end of document", f"line {last}, the end of the file")
        raise ConfigError(f"{source}: {place}: not TOML: {message[: location.start()]}") from error
