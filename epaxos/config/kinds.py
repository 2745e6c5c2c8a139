"""The kinds of values a key may have: what is allowed, and how it is read from a file or a variable.

A kind has three members. `allowed` says in words what may stand there; `read` turns what stands in a file
into the value the program works with; `from_text` turns the text of an environment variable into what would
stand in the file. Both raise a ValueError whose words do not matter, as the caller knows where the value
stands and `allowed` says the rest.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Protocol

from epaxos.config.durations import parse_duration

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HOST: Final = re.compile(r"[A-Za-z0-9_.:%-]{1,253}")
_HOST_NAME: Final = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_NUMERIC_END: Final = re.compile(r"(?:.*\.)?[0-9]+\.?")


class Kind(Protocol):
    """What every kind of value offers."""

    @property
    def allowed(self) -> str:
        """What may stand there, in words."""

    def read(self, raw: object) -> object:
        """The value that `raw`, as it stands in a file, means; ValueError if it is not allowed."""

    def from_text(self, text: str) -> object:
        """What would stand in a file for `text`; ValueError if nothing would."""


@dataclass(frozen=True, slots=True)
class Switch:
    """True or false."""

    allowed: str = "true or false"

    def read(self, raw: object) -> bool:
        """Take a boolean."""
        if not isinstance(raw, bool):
            raise ValueError  # noqa: TRY004 - to the user a wrong type and a wrong value are one mistake
        return raw

    def from_text(self, text: str) -> bool:
        """Take the two words of TOML."""
        if text not in {"true", "false"}:
            raise ValueError
        return text == "true"


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer in a closed range; `words` replace the range where it depends on other keys."""

    low: int
    high: int
    unit: str = ""
    words: str = ""

    @property
    def allowed(self) -> str:
        """The range with its unit."""
        unit = f" ({self.unit})" if self.unit else ""
        return self.words or f"integer from {self.low} to {self.high}{unit}"

    def read(self, raw: object) -> int:
        """Take an integer of the range; a boolean is none."""
        if not isinstance(raw, int) or isinstance(raw, bool) or not self.low <= raw <= self.high:
            raise ValueError
        return raw

    def from_text(self, text: str) -> int:
        """Take what Python takes for an integer."""
        return int(text)


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration in a closed range, given as text, or as a number of seconds, and read as seconds."""

    low: str
    high: str

    @property
    def allowed(self) -> str:
        """The range, which shows the notation too."""
        return f'duration from "{self.low}" to "{self.high}"'

    def read(self, raw: object) -> float:
        """Take a duration of the range."""
        if not isinstance(raw, str | int | float) or isinstance(raw, bool):
            raise ValueError  # noqa: TRY004 - to the user a wrong type and a wrong value are one mistake
        seconds = parse_duration(str(raw))
        if not parse_duration(self.low) <= seconds <= parse_duration(self.high):
            raise ValueError
        return seconds

    def from_text(self, text: str) -> str:
        """Take any text; `read` judges it."""
        return text


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    options: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """The words."""
        words = [f'"{option}"' for option in self.options]
        return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))

    def read(self, raw: object) -> str:
        """Take one of the words."""
        if not isinstance(raw, str) or raw not in self.options:
            raise ValueError
        return raw

    def from_text(self, text: str) -> str:
        """Take any text; `read` judges it."""
        return text


@dataclass(frozen=True, slots=True)
class Name:
    """A name that fits a log line, a metric's label and a comma-separated list as it is."""

    allowed: str = "1 to 63 letters, digits, _ . or -, the first a letter or digit"

    def read(self, raw: object) -> str:
        """Take a name."""
        if not isinstance(raw, str) or not _NAME.fullmatch(raw):
            raise ValueError
        return raw

    def from_text(self, text: str) -> str:
        """Take any text; `read` judges it."""
        return text


@dataclass(frozen=True, slots=True)
class Host:
    """A host name or IP address.

    Others connect to it, so a `wildcard` is allowed only where it is listened on: every replica of a cluster on
    several machines would talk to itself.
    """

    allowed: str = "host name or IP address that others can connect to; not a wildcard such as 0.0.0.0"
    wildcard: bool = False

    def read(self, raw: object) -> str:
        """Take a host."""
        if not isinstance(raw, str) or not _HOST.fullmatch(raw):
            raise ValueError
        address = ip_address(raw)
        if address is None:
            if not _HOST_NAME.fullmatch(raw) or _NUMERIC_END.fullmatch(raw):
                raise ValueError
        elif address.is_unspecified and not self.wildcard:
            raise ValueError
        return raw

    def from_text(self, text: str) -> str:
        """Take any text; `read` judges it."""
        return text


_PATH: Final = "path of 1 to 1024 characters, none of them NUL, the first not ~"


@dataclass(frozen=True, slots=True)
class Place:
    """The path of a file or directory, which need not exist; where it is `optional`, "" stands for none.

    Nothing expands ~, and a directory of that name invites a fatal `rm -r`.
    """

    optional: bool = False

    @property
    def allowed(self) -> str:
        """The path in words."""
        return f'{_PATH}; or ""' if self.optional else _PATH

    def read(self, raw: object) -> str:
        """Take a path."""
        if not isinstance(raw, str) or len(raw) > 1024 or "\0" in raw or raw.startswith("~"):
            raise ValueError
        if not (raw or self.optional):
            raise ValueError
        return raw

    def from_text(self, text: str) -> str:
        """Take any text; `read` judges it."""
        return text


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where replicas are, as one text that fits into a variable; "" stands for none."""

    allowed: str = (
        'NAME=HOST:PORT, several parted by commas, each name once, an IPv6 address in brackets; or ""'
    )

    def read(self, raw: object) -> tuple[tuple[str, tuple[str, int]], ...]:
        """Take pairs of a name and its host and port."""
        if not isinstance(raw, str):
            raise ValueError  # noqa: TRY004 - to the user a wrong type and a wrong value are one mistake
        found: dict[str, tuple[str, int]] = {}
        for text in filter(None, raw.split(",")):
            name, _, place = text.strip().partition("=")
            host, _, port = place.rpartition(":")
            bare = host.removeprefix("[").removesuffix("]")
            if (":" in bare) != (host == f"[{bare}]") or not port.isascii() or not port.isdecimal():
                raise ValueError
            if Name().read(name) in found:
                raise ValueError
            found[name] = Host().read(bare), Integer(1, 65535).read(int(port))
        return tuple(found.items())

    def from_text(self, text: str) -> str:
        """Take any text; `read` judges it."""
        return text


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that `host` is, None if it is none."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def show(raw: object) -> str:
    """`raw` as a file would show it: one line of printable characters, shortened where it is long."""
    match raw:
        case bool():
            return "true" if raw else "false"
        case str():
            return f'"{_shorten(printable(raw))}"'
        case int() if raw.bit_length() > 64:
            return f"an integer of {raw.bit_length()} bits"
        case int() | float():
            return str(raw)
        case dict():
            return "a table"
        case list():
            return "an array"
    return "a date or time"


def printable(text: str) -> str:
    """`text` with escapes for what cannot be printed on one line, and for quotes and backslashes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped)


def _shorten(text: str, longest: int = 80) -> str:
    """`text` with its middle left out if it has more than `longest` characters."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - 20]}...{text[-17:]}"
