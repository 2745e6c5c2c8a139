"""A table of sites and of the round-trip times between them, read from a TOML file.

sites = ["us", "eu", "asia"]
f = 1                           # as many crashes are survived; the default is the most that is possible
e = 1                           # under as many crashes the fast path works; the same

[rtt]                           # milliseconds there and back, each pair of sites once, in either direction
us = { eu = 70, asia = 150 }
eu = { asia = 220 }
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from epaxos.config.kinds import Integer, show
from epaxos.config.loading import read_file
from epaxos.config.suggestion import advice
from epaxos.errors import ConfigError
from epaxos.protocol.ids import Row
from epaxos.protocol.quorums import Quorums, default_e, default_f
from epaxos.simulation.plan.options import LARGEST

FEWEST: Final = 2
"""Sites; a single one has nobody to wait for."""

SHORTEST, LONGEST = 0.001, 100_000
"""Milliseconds; from two processes on one machine to beyond the moon."""

_KEYS: Final = ("sites", "f", "e", "rtt")
_SITE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_SITE_ALLOWED: Final = "1 to 32 letters, digits, _ or -, the first a letter or digit"
_SITES_ALLOWED: Final = f"an array of {FEWEST} to {LARGEST} names"
_RTT_ALLOWED: Final = f"milliseconds there and back, a number from {SHORTEST:g} to {LONGEST}"

_Pairs = dict[frozenset[str], tuple[str, float]]
"""By the two sites: the key that gave their time, and the time in milliseconds."""


@dataclass(frozen=True, slots=True)
class Table:
    """Sites in the order of the file, a replica at each.

    source   the file
    quorums  the thresholds of the cluster
    rtt      round-trip times in seconds, n rows of n; symmetric, 0 on the diagonal
    """

    source: str
    sites: tuple[str, ...]
    quorums: Quorums
    rtt: tuple[tuple[float, ...], ...]

    @property
    def longest(self) -> float:
        """The longest round-trip time, in seconds."""
        return max(map(max, self.rtt))

    def nearest(self, row: Row) -> tuple[Row, ...]:
        """All peers of a replica, the nearest first."""
        peers = (peer for peer in range(len(self.sites)) if peer != row)
        return tuple(sorted(peers, key=self.rtt[row].__getitem__))


def read_table(path: str) -> Table:
    """Read a table from a file.

    Raises:
        ConfigError: the file cannot be read, or something is wrong in it; one line for each problem.
    """
    return make_table(read_file(path), path)


def make_table(document: Mapping[str, object], source: str) -> Table:
    """A table from what a file says; `source` names the file in messages.

    Raises:
        ConfigError: something is wrong; one line for each problem.
    """
    problems = [f"{_key(key)}: unknown key; {advice(key, _KEYS)}" for key in document if key not in _KEYS]
    sites = _read_sites(document.get("sites"), problems)
    # Without the sites, nothing that the rest says of them can be judged.
    quorums = _read_quorums(document, len(sites), problems) if sites else None
    pairs = _read_times(document.get("rtt"), sites, problems) if sites else {}
    if problems or quorums is None:
        raise ConfigError("\n".join(f"{source}: {problem}" for problem in problems))
    return Table(source, sites, quorums, _matrix(sites, pairs))


def _read_sites(raw: object, problems: list[str]) -> tuple[str, ...]:
    """The names of the sites; none if there is anything wrong with them."""
    if not isinstance(raw, list) or not FEWEST <= len(raw) <= LARGEST:
        problems.append(f"sites: {_found_sites(raw)}; allowed: {_SITES_ALLOWED}")
        return ()
    wrong = list(_wrong_sites(raw))
    problems += wrong
    return () if wrong else tuple(raw)


def _found_sites(raw: object) -> str:
    if raw is None:
        return "missing"
    return f"found {len(raw)} of them" if isinstance(raw, list) else f"found {show(raw)}"


def _wrong_sites(raw: list[object]) -> Iterator[str]:
    for index, site in enumerate(raw):
        if not isinstance(site, str) or not _SITE.fullmatch(site):
            yield f"sites, number {index + 1}: found {show(site)}; allowed: {_SITE_ALLOWED}"
        elif site in raw[:index]:
            first = raw.index(site) + 1
            yield f"sites, number {index + 1}: found {show(site)}; allowed: a name that number {first} has not"


def _read_quorums(document: Mapping[str, object], n: int, problems: list[str]) -> Quorums | None:
    """The thresholds of n replicas; None if a number is not allowed."""
    f = _read_crashes("f", document, default_f(n), f"with {n} sites", problems)
    if f is None:
        return None
    e = _read_crashes("e", document, default_e(n, f), f"with {n} sites and f = {f}", problems)
    return None if e is None else Quorums(n, f, e)


def _read_crashes(
    key: str, document: Mapping[str, object], most: int, where: str, problems: list[str]
) -> int | None:
    """The number under `key`, `most` if there is none; None if it is not allowed."""
    kind = Integer(0, most, words="" if most else "0")
    raw = document.get(key, most)
    try:
        return kind.read(raw)
    except ValueError:
        problems.append(f"{key}: found {show(raw)}; allowed: {kind.allowed} {where}")
        return None


def _read_times(raw: object, sites: tuple[str, ...], problems: list[str]) -> _Pairs:
    """The times of all pairs, as far as they are allowed."""
    if not isinstance(raw, dict):
        found = "missing" if raw is None else f"found {show(raw)}"
        problems.append(f"rtt: {found}; allowed: a table, [rtt]")
        return {}
    pairs: _Pairs = {}
    before = len(problems)
    for site, row in raw.items():
        if site not in sites:
            problems.append(f"rtt.{_key(site)}: unknown site; {advice(site, sites)}")
        elif not isinstance(row, dict):
            example = next(other for other in sites if other != site)
            problems.append(
                f"rtt.{site}: found {show(row)}; allowed: times to other sites, like {{ {example} = 80 }}"
            )
        else:
            _read_row(site, row, sites, pairs, problems)
    if len(problems) == before:
        # A pair with a mistake is not missing as well.
        problems += _missing(sites, pairs)
    return pairs


def _read_row(
    site: str, row: Mapping[str, object], sites: tuple[str, ...], pairs: _Pairs, problems: list[str]
) -> None:
    """Take over the times from one site to others."""
    for other, raw in row.items():
        place = f"rtt.{site}.{_key(other)}"
        if other not in sites:
            problems.append(f"{place}: unknown site; {advice(other, sites)}")
        elif other == site:
            problems.append(f"{place}: found {show(raw)}; allowed: times to other sites only")
        elif (time := _read_time(raw)) is None:
            problems.append(f"{place}: found {show(raw)}; allowed: {_RTT_ALLOWED}")
        else:
            first, _ = pairs.setdefault(frozenset((site, other)), (place, time))
            if first != place:
                problems.append(
                    f"{place}: given a second time; allowed: each pair once, and {first} is there"
                )


def _read_time(raw: object) -> float | None:
    """A time in milliseconds; None if it is not allowed."""
    if not isinstance(raw, (int, float)) or isinstance(raw, bool) or not SHORTEST <= raw <= LONGEST:
        return None
    return float(raw)


def _key(name: str) -> str:
    """A key of the file as it would have to stand there."""
    return name if _SITE.fullmatch(name) else show(name)


def _missing(sites: tuple[str, ...], pairs: _Pairs) -> Iterator[str]:
    for site, other in combinations(sites, 2):
        if frozenset((site, other)) not in pairs:
            yield f"rtt.{site}.{other}: missing; allowed: {_RTT_ALLOWED}"


def _matrix(sites: tuple[str, ...], pairs: _Pairs) -> tuple[tuple[float, ...], ...]:
    """The times in seconds, a row for each site."""
    return tuple(
        tuple(0.0 if site == other else pairs[frozenset((site, other))][1] / 1000 for other in sites)
        for site in sites
    )
