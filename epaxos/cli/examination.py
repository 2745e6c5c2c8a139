"""What `epaxos doctor` looks at: this machine, the ways from it to every replica, and what those tell of themselves.

Each check yields `Finding`s and changes nothing but a file of its own that it writes to measure the disk. What a
check needs of the world is an argument, so that a test can make it bad.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Final, NamedTuple

from epaxos.cli.survey import Survey
from epaxos.config import Config, ReplicaAddress, format_duration, place
from epaxos.transport.addresses import at_once, family, pair, resolve, unresolved
from epaxos.version import __version__


class State(StrEnum):
    """How a check ended; `FAILED` needs mending, a `WARNING` may be meant."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """What a check found.

    subject  of which replica, path or machine
    advice   what to do; empty if there is nothing to do
    """

    check: str
    subject: str
    state: State
    found: str
    advice: str = ""


PATIENCE: Final = 3.0
"""Seconds for a name to resolve, a connection to be made or a page to come."""

SLOW_NAME: Final = 0.5  # seconds
SLOW_SYNC: Final = 0.01
"""Seconds of a disk that every command waits for twice; a local one with a cache takes a tenth of it."""

SYNCS: Final = 30
SYNC_TIME: Final = 2.0  # seconds for all of them
SKEW: Final = 2.0
"""Seconds by which clocks may differ: a page tells the time in whole ones."""

DESCRIPTORS: Final = 4096
FULL: Final = 0.8
"""Share of its descriptors above which a replica soon turns clients away."""

ROOM: Final = 2
"""How many times what it holds a replica needs on its disk: a checkpoint is written beside the last."""

MEBIBYTE: Final = 1 << 20
LEAST_ROOM: Final = 256 * MEBIBYTE
NOT_LASTING: Final = frozenset({"tmpfs", "ramfs", "overlay"})
NETWORKED: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs", "ceph"})


# -- names and ports -----------------------------------------------------------------------------------------


class Named(NamedTuple):
    """What a host name came to: addresses or an error, and after how many seconds."""

    addresses: Sequence[str]
    error: str
    seconds: float


def look_up(hosts: Sequence[str]) -> dict[str, Named]:
    """What host names mean here, all asked at once."""

    def ask(host: str) -> Named:
        began = time.monotonic()
        try:
            addresses, error = resolve(host), ""
        except OSError as failure:
            addresses, error = [], unresolved(host, failure)
        return Named(addresses, error, time.monotonic() - began)

    silent = Named([], f"the name server does not answer within {PATIENCE:g} s", PATIENCE)
    found = at_once(ask, hosts, PATIENCE)
    return {host: named or silent for host, named in zip(hosts, found, strict=True)}


def is_here(address: str) -> bool:
    """Whether a numeric address is one of this machine."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as trial:
        try:
            trial.bind(pair(address, 0))
        except OSError:
            return False
    return True


def examine_names(
    config: Config, names: Mapping[str, Named], here: Sequence[ReplicaAddress]
) -> Iterator[Finding]:
    """Whether every replica's host resolves, quickly, and to what others can reach."""
    for replica in config.replicas:
        named = names[replica.host]
        subject = f"{replica.name}: {replica.host}"
        if named.error:
            yield Finding(
                "dns", subject, State.FAILED, named.error, "correct `host`, or mend the name service"
            )
        elif _is_loopback(named.addresses) and _spread(config, names):
            advice = "other replicas are elsewhere: remove the name from the line of 127.0.1.1 in /etc/hosts"
            yield Finding("dns", subject, State.FAILED, f"means {', '.join(named.addresses)} here", advice)
        elif named.seconds > SLOW_NAME:
            found = f"takes {named.seconds:.1f} s to resolve"
            yield Finding("dns", subject, State.WARNING, found, "mend the name service, or write addresses")
        else:
            yield Finding("dns", subject, State.OK, ", ".join(named.addresses))
    for replica in here:
        if replica.listen is not None and (error := names[replica.listen].error):
            yield Finding("dns", f"{replica.name}: {replica.listen}", State.FAILED, error, "correct `listen`")


def _is_loopback(addresses: Sequence[str]) -> bool:
    return all(address == "::1" or address.startswith("127.") for address in addresses)


def _spread(config: Config, names: Mapping[str, Named]) -> bool:
    """Whether some replica is not on this machine alone."""
    return any(
        names[replica.host].addresses and not _is_loopback(names[replica.host].addresses)
        for replica in config.replicas
    )


def connect(address: str, port: int) -> str:
    """Why no connection can be made; empty if one can."""
    try:
        with socket.socket(family(address), socket.SOCK_STREAM) as trial:
            trial.settimeout(PATIENCE)
            trial.connect(pair(address, port))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def examine_ports(
    config: Config, names: Mapping[str, Named], silent: Mapping[str, str], here: Sequence[ReplicaAddress]
) -> Iterator[Finding]:
    """Whether all three ports of each replica can be reached from here, and are its own.

    `silent` says of each replica that did not tell its status why not.
    """
    wanted = [
        (replica, key, getattr(replica, key))
        for replica in config.replicas
        for key in ("port", "client_port", "metrics_port")
        if names[replica.host].addresses
    ]

    def attempt(one: tuple[ReplicaAddress, str, int]) -> str:
        errors = [connect(address, one[2]) for address in names[one[0].host].addresses]
        return "" if "" in errors else "; ".join(dict.fromkeys(errors))

    errors = at_once(attempt, wanted, 2 * PATIENCE)
    closed: dict[str, list[str]] = {}
    for (replica, key, port), error in zip(wanted, errors, strict=True):
        reasons = closed.setdefault(replica.name, [])
        if error or error is None:
            reasons.append(f"{key} {port}: {error or 'no answer'}")
    for name, reasons in closed.items():
        replica = config.replica(name)
        if reasons and len(reasons) == 3:
            found = "; ".join(reasons)
            local = (
                f"start it: epaxos serve -n {name}"
                if replica in here
                else f"start {name} there, or open the way"
            )
            yield Finding("ports", name, State.FAILED, found, local)
        elif reasons:
            advice = "a firewall or another program: compare with `listening for` in the log of " + name
            yield Finding("ports", name, State.FAILED, "; ".join(reasons), advice)
        elif name in silent:
            advice = f"find what has the ports of {name}, and whether it reads the same file"
            yield Finding("ports", name, State.FAILED, f"something listens, but {silent[name]}", advice)
        else:
            yield Finding(
                "ports", name, State.OK, f"{replica.port}, {replica.client_port}, {replica.metrics_port}"
            )


# -- what replicas tell --------------------------------------------------------------------------------------


class Page(NamedTuple):
    """A replica's page: its text, and how far its clock is before this one's in seconds, None if it told no time."""

    text: str
    ahead: float | None


def fetch_pages(config: Config, names: Mapping[str, Named]) -> dict[str, Page]:
    """The page /metrics of every replica that has one, by name; of one that asks for a token only its time is known."""
    trusting = ssl.create_default_context()  # nothing is told there, and little believed
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    scheme = "https" if config.security.certificate else "http"

    def fetch(replica: ReplicaAddress) -> Page | None:
        url = f"{scheme}://{place(replica.host, replica.metrics_port)}/metrics"
        began = time.time()
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE, context=trusting) as answer:  # noqa: S310 - HTTP alone
                date, text = answer.headers["Date"], answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            date, text = error.headers["Date"], ""
        except (OSError, ValueError):
            return None
        middle = (began + time.time()) / 2
        told = None if date is None else parsedate_to_datetime(date).timestamp()
        return Page(text, None if told is None else told + 0.5 - middle)

    asked = [replica for replica in config.replicas if names[replica.host].addresses]
    found = at_once(fetch, asked, 2 * PATIENCE)
    return {replica.name: page for replica, page in zip(asked, found, strict=True) if page is not None}


def figure(page: Page, name: str) -> float | None:
    """A figure without labels of a page /metrics; None if it has none."""
    for line in page.text.splitlines():
        if line.startswith(f"{name} "):
            with suppress(ValueError):
                return float(line.rpartition(" ")[2])
    return None


def examine_clocks(pages: Mapping[str, Page]) -> Iterator[Finding]:
    """Whether the replicas' clocks agree with this one; consensus needs none, but those who read logs do."""
    told = {name: page.ahead for name, page in pages.items() if page.ahead is not None}
    if not told:
        yield Finding("clocks", "", State.SKIPPED, "no replica tells the time")
    for name, ahead in told.items():
        if abs(ahead) > SKEW:
            found = f"{abs(ahead):.0f} s {'before' if ahead > 0 else 'behind'} the clock here"
            advice = (
                "run NTP (chrony, systemd-timesyncd) on both; consensus does not need it, reading logs does"
            )
            yield Finding("clocks", name, State.WARNING, found, advice)
        else:
            yield Finding("clocks", name, State.OK, f"agrees with the one here to {SKEW:g} s")


def examine_versions(found: Survey) -> Iterator[Finding]:
    """Whether all run one version, this command too, and use what is new in it."""
    statuses = {replica["name"]: replica for replica in found.replicas if replica["reachable"]}
    versions: dict[str, list[str]] = {__version__: ["this command"]}
    for name, status in statuses.items():
        versions.setdefault(str(status["version"]), []).append(name)
    if not statuses:
        yield Finding("versions", "", State.SKIPPED, "no replica answers")
    elif len(versions) == 1:
        yield Finding("versions", "", State.OK, f"{__version__} everywhere")
    else:
        those = "; ".join(f"{version}: {', '.join(names)}" for version, names in sorted(versions.items()))
        advice = "finish the upgrade: restart those of the former version, one after the other"
        yield Finding("versions", "", State.WARNING, those, advice)
    if len(found.newer) == len(found.replicas):
        advice = "`epaxos upgrade` lets them use it, once you do not want to go back to the former version"
        yield Finding("levels", "", State.WARNING, found.levels, advice)
    elif statuses:
        yield Finding("levels", "", State.OK, found.levels)


def examine_quorum(found: Survey) -> Iterator[Finding]:
    """Whether the cluster serves, as seen from here, and can bear another failure.

    Replicas that have just died are still counted by those that hear them, so as many must answer here too.
    """
    headline = found.headline
    spare = min(found.heard or 0, found.reachable) - found.quorum
    if (found.heard or 0) >= found.quorum > found.reachable:
        headline = f"{found.reachable} of {found.n} replicas answer here, {found.quorum} are needed"
    if spare < 0:
        advice = (
            "start the replicas that are down, and mend the ways between those that do not hear one another"
        )
        yield Finding("quorum", "", State.FAILED, headline, advice)
    elif spare == 0 and found.quorum < found.n:
        yield Finding(
            "quorum", "", State.WARNING, headline, "bring back what is down: the next failure stops all"
        )
    else:
        yield Finding("quorum", "", State.OK, headline)
    there = [replica for replica in found.replicas if replica["reachable"]]
    for replica in there:
        if replica.get("storage_full"):
            advice = "make room: remove other files or keys, or raise storage.quota"
            found_there = "its disk is nearly full: clients may only read and remove there"
            yield Finding("disk", replica["name"], State.FAILED, found_there, advice)
    for reason in found._replace(replicas=there, others=0).reasons:
        advice = "docs/operations.md has what each reason asks of you"
        yield Finding("quorum", "", State.FAILED, reason, advice)


# -- this machine --------------------------------------------------------------------------------------------


def examine_descriptors(limit: int, pages: Mapping[str, Page]) -> Iterator[Finding]:
    """Whether processes may open as many files as many clients take; `limit` is the hard one of this machine."""
    if limit < DESCRIPTORS:
        advice = f"raise it to {DESCRIPTORS} or more: `ulimit -Hn`, LimitNOFILE= of the unit, /etc/security/limits.conf"
        yield Finding("descriptors", "here", State.WARNING, f"at most {limit} for a process", advice)
    else:
        yield Finding("descriptors", "here", State.OK, f"at most {limit} for a process")
    for name, page in pages.items():
        used, most = figure(page, "process_open_fds"), figure(page, "process_max_fds")
        if used is not None and most and used > FULL * most:
            advice = "raise its limit, or find out who keeps so many connections"
            yield Finding("descriptors", name, State.FAILED, f"{used:.0f} of {most:.0f} in use", advice)


def examine_disk(config: Config, replica: ReplicaAddress) -> Iterator[Finding]:
    """Whether a replica of this machine can keep its promises: the place, its room, and how long a sync takes."""
    if config.storage.engine == "memory":
        advice = 'meant for tests: with `engine = "sqlite"` it would keep them'
        yield Finding("disk", replica.name, State.WARNING, "promises end with the process", advice)
        return
    directory = config.storage.directory_of(replica.name)
    there = next(path for path in (directory, *directory.parents) if path.exists())
    if not there.is_dir():
        yield Finding(
            "disk", str(directory), State.FAILED, f"{there} is a file", "correct `storage.directory`"
        )
        return
    yield from _examine_place(there, directory)
    yield _examine_room(there, directory)
    yield measure_sync(there, needed=config.storage.sync == "always")


def _examine_place(there: Path, directory: Path) -> Iterator[Finding]:
    kind = filesystem_of(there)
    if kind in NOT_LASTING:
        advice = "set `storage.directory` to a disk: a replica that loses its data may not come back"
        yield Finding(
            "disk", str(directory), State.WARNING, f"{kind}: gone with the machine or container", advice
        )
    elif kind in NETWORKED:
        advice = "use a local disk: a lock or a sync may not mean there what it means here"
        yield Finding("disk", str(directory), State.WARNING, f"{kind}: on the network", advice)


def filesystem_of(path: Path, mounts: str | None = None) -> str:
    """The kind of the file system that a path is on, as in /proc/mounts; empty where that is not known."""
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(errors="replace")
        except OSError:
            return ""
    places = [(line.split()[1], line.split()[2]) for line in mounts.splitlines() if len(line.split()) > 2]
    fitting = [(point, kind) for point, kind in places if path.resolve().is_relative_to(point)]
    return max(fitting, key=lambda found: len(found[0]), default=("", ""))[1]


def _examine_room(there: Path, directory: Path) -> Finding:
    found = os.statvfs(there)
    free = found.f_bavail * found.f_frsize
    held = sum(file.stat().st_size for file in directory.glob("*") if file.is_file())
    text = f"{free / MEBIBYTE:,.0f} MiB free, {held / MEBIBYTE:,.0f} MiB held"
    if free < max(LEAST_ROOM, ROOM * held):
        advice = f"make room: {ROOM} times what it holds and {LEAST_ROOM // MEBIBYTE} MiB at least"
        return Finding("disk", str(directory), State.WARNING, text, advice)
    return Finding("disk", str(directory), State.OK, text)


def measure_sync(there: Path, *, needed: bool) -> Finding:
    """How long a sync of 4 KiB takes, in a nameless file there; `needed` if every command waits for it."""
    times: list[float] = []
    try:
        with TemporaryFile(dir=there, buffering=0) as file:
            stop = time.monotonic() + SYNC_TIME
            while len(times) < SYNCS and time.monotonic() < stop:
                began = time.monotonic()
                file.write(bytes(4096))
                os.fsync(file.fileno())
                times.append(time.monotonic() - began)
    except OSError as error:
        advice = "let the user that runs the replica write there"
        return Finding("sync", str(there), State.FAILED, f"cannot be written: {error.strerror}", advice)
    found = f"{_short(median(times))} to sync, {_short(max(times))} at most"
    if needed and median(times) > SLOW_SYNC:
        advice = (
            "every command waits for it: a local disk with a cache that survives power failures is quicker"
        )
        return Finding("sync", str(there), State.WARNING, found, advice)
    return Finding("sync", str(there), State.OK, found)


def _short(seconds: float) -> str:
    return format_duration(float(f"{seconds:.2g}"))
