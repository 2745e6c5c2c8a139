"""`epaxos registers`: single values by consensus, without a cluster."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, TypeVar

import click

from epaxos.cli.failures import Exit, check_installed
from epaxos.cli.nodes import OVER, Nodes, named_nodes
from epaxos.cli.options import positive_duration, scheduler_option
from epaxos.cli.pages import Page, PagedGroup
from epaxos.errors import ConfigError, NoAnswer
from epaxos.protocol.registers.values import Configuration
from epaxos.registers import http, zeromq
from epaxos.registers.guard import check_listening, name_of
from epaxos.registers.node import Node
from epaxos.registers.observer import Observer, position_of, text_of_position
from epaxos.registers.programs import text_of
from epaxos.registers.store import EngineStore, MemoryStore
from epaxos.security.access import Access
from epaxos.security.making import make_keys

Function = TypeVar("Function", bound=Callable[..., Any])

_FRESH: Final = 10**9
_KEPT: Final = 1.0
"""Seconds between two looks at who votes, and between two notes of an observer's position."""


@click.group(cls=PagedGroup, context_settings={"help_option_names": ["-h", "--help"]})
def registers() -> None:
    """Registers: single values by consensus, each for itself (CASPaxos), without a cluster.

    Nodes are named by their numbers and addresses, with --node or the variable EPAXOS_REGISTERS, parted by commas,
    like 0=localhost:4300,1=localhost:4301,2=localhost:4302 by HTTP, or 0=tcp://localhost:4300,... over ZeroMQ.

    With --config FILE, or EPAXOS_CONFIG, the table [security] of that file counts, and with or without one
    EPAXOS_SECURITY_KEYS and so on. With keys nodes are asked over ZeroMQ; each has its own, others come in with
    security.key (admin.key).

    Examples:
      epaxos registers serve --id 0 --data registers-0
      epaxos registers put leader alice
      epaxos registers cas leader bob --expected alice
      epaxos registers decide winner alice

    Exit codes:
      0   done
      1   not found, not the expected value, or failed
      2   wrong command line, or a proposal that is refused
      3   no answer
      10  and above: what a simulation found, as for epaxos simulate
    """


# -- what commands share -----------------------------------------------------------------------------------


def _timeout(function: Function) -> Function:
    return click.option(
        "--timeout",
        default="2s",
        show_default=True,
        callback=positive_duration,
        metavar="DURATION",
        help="How long a majority may take.",
    )(function)


def _propose(nodes: Nodes, timeout: float, key: str, change: str, *arguments: Any) -> dict[str, Any]:
    """Propose through one node, or another if that is not there: once, whoever does it in the end."""
    asked = {
        "key": key,
        "change": change,
        "arguments": arguments,
        "once": [SystemRandom().randrange(2**63), 1],
        "timeout": timeout,
    }
    return nodes.ask("/propose", asked, timeout + 1)


def _print(value: Any) -> None:
    """Print a value; nothing, and another exit code, where there is none."""
    if value is None:
        click.get_current_context().exit(Exit.FAILED)
    click.echo(value if isinstance(value, str) else json.dumps(value))


# -- a node ------------------------------------------------------------------------------------------------


@registers.command(cls=Page)
@click.option("--id", "id_", type=int, required=True, metavar="ID", help="Which of the nodes this is.")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Keep what it promises here.")
@click.option("--memory", is_flag=True, help="Keep it in memory: a node that ends must not come back.")
@click.option("--listen", metavar="HOST", help="What to listen on.  [default: the host of its address]")
@click.option(
    "--http", "http_port", type=click.IntRange(1, 65535), metavar="PORT", help="Answer programs by HTTP too."
)
@click.option(
    "--insecure", is_flag=True, help="Listen on more than the loopback interface: no stranger is there."
)
@click.option("--joins", is_flag=True, help="It votes only after `epaxos registers grow`; others do already.")
@named_nodes
def serve(
    id_: int,
    data: Path | None,
    *,
    memory: bool,
    listen: str | None,
    http_port: int | None,
    insecure: bool,
    joins: bool,
    nodes: Nodes,
) -> None:
    """Run a node, until Ctrl-C or a SIGTERM.

    Without keys, whoever reaches its port can read, write and vote. So it listens on the loopback interface only,
    unless --insecure, or security.insecure, says that no stranger can reach it. With keys (`epaxos registers keys`)
    others are let in as the lists say, which are read again on SIGHUP, and by HTTP with a token.

    Examples:
      epaxos registers serve --id 0 --data registers-0
      epaxos registers serve --id 0 --data r0 -c registers.toml --http 4400
    """
    nodes.check(id_, f"--id {id_}")
    check_installed("registers serve", "server", ("starlette", "uvicorn"))
    if memory == (data is not None):
        raise click.UsageError("one of --data DIR and --memory is needed, and only one")
    if http_port is not None and not nodes.over_zeromq:
        raise click.UsageError(f"--http is for nodes that are asked over ZeroMQ (ID={OVER}HOST:PORT)")
    host, port = listen or nodes.addresses[id_][0], nodes.addresses[id_][1]
    insecure = insecure or nodes.security.insecure
    access = nodes.become(id_)
    check_listening(
        id_, host, access, insecure=insecure, warns=False
    )  # who listens does, and data is made before
    store = MemoryStore() if data is None else EngineStore(data, id_)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    transport = nodes.transport()
    if access is not None and isinstance(transport, zeromq.ZeroMqTransport):
        signal.signal(signal.SIGHUP, lambda *_: _reload(access, transport))
    others = [other for other in nodes.addresses if other != id_]
    acceptors = nodes.ask("/status", {}, 2.0, *others)["accept"] if joins else None
    with Node(id_, store, transport, acceptors=acceptors) as node, ExitStack() as servers:
        node.connect(*nodes.addresses)
        if nodes.over_zeromq:
            servers.enter_context(zeromq.ZeroMqServer(node, host, port, access, insecure=insecure))
        if http_port is not None or not nodes.over_zeromq:
            certificate = nodes.security.certificate
            servers.enter_context(
                http.HttpServer(
                    node, host, http_port or port, access, certificate=certificate, insecure=insecure
                )
            )
        click.echo(f"node {id_} of registers listens on {host}:{port}", err=True)
        stop.wait()
    if isinstance(store, EngineStore):
        store.close()


def _reload(access: Access, transport: zeromq.ZeroMqTransport) -> None:
    """Let in who is on the lists now; if they are wrong, who was on them before."""
    try:
        access.reload()
    except ConfigError as error:
        click.echo(f"the lists of keys are not used, those read before are: {error}", err=True)
    else:
        transport.reload()
        click.echo("read the lists of keys again", err=True)


@registers.command(cls=Page)
@named_nodes
def keys(nodes: Nodes) -> None:
    """Make the keys of the nodes that are named, and one of a client called admin; those that are there stay.

    They are made in the directory that security.keys names. Each node needs its own, node-ID.key, and the two lists;
    who asks them its own and replicas.toml. `epaxos keys add`, `remove` and `list` do the rest with the same file.

    Examples:
      epaxos registers keys -c registers.toml
      epaxos keys add web --role write --prefix web/ -c registers.toml
    """
    if not nodes.security.keys:
        raise ConfigError(
            "security.keys: found none; allowed: a directory, in the file of --config or as EPAXOS_SECURITY_KEYS"
        )
    directory = Path(nodes.security.keys)
    for name in make_keys(map(name_of, nodes.addresses), directory):
        click.echo(f"{directory / name}.key")


# -- registers ---------------------------------------------------------------------------------------------


@registers.command(cls=Page)
@click.argument("key")
@_timeout
@named_nodes
def get(key: str, timeout: float, nodes: Nodes) -> None:
    """Print the value of a register; 1 if it holds none."""
    _print(_propose(nodes, timeout, key, "get")["value"])


@registers.command(cls=Page)
@click.argument("key")
@click.argument("value")
@_timeout
@named_nodes
def put(key: str, value: str, timeout: float, nodes: Nodes) -> None:
    """Set the value of a register."""
    _propose(nodes, timeout, key, "put", value)


@registers.command(cls=Page)
@click.argument("key")
@_timeout
@named_nodes
def delete(key: str, timeout: float, nodes: Nodes) -> None:
    """Remove the value of a register; 1 if it holds none."""
    if not _propose(nodes, timeout, key, "delete")["result"]:
        click.get_current_context().exit(Exit.FAILED)


@registers.command(cls=Page)
@click.argument("key")
@click.argument("value")
@click.option("--expected", metavar="VALUE", help="What it must hold; without it, nothing.")
@_timeout
@named_nodes
def cas(key: str, value: str, expected: str | None, timeout: float, nodes: Nodes) -> None:
    """Set the value of a register if it is the expected one; else print what it is, and end with 1."""
    told = _propose(nodes, timeout, key, "cas", expected, value)
    if not told["swapped"]:
        if told["current"] is not None:
            _print(told["current"])
        click.get_current_context().exit(Exit.FAILED)


@registers.command(cls=Page)
@click.argument("name")
@click.argument("value")
@_timeout
@named_nodes
def decide(name: str, value: str, timeout: float, nodes: Nodes) -> None:
    """Decide a name's value for ever (simple Paxos), and print what is decided: this value, or an earlier one."""
    _print(_propose(nodes, timeout, name, "keep", value)["result"])


def _looked_after(function: Function) -> Function:
    for option in (
        click.option(
            "--gone",
            type=int,
            multiple=True,
            metavar="ID",
            help="A node that will never come back: wait no more.",
        ),
        click.option(
            "--timeout",
            default="60s",
            show_default=True,
            callback=positive_duration,
            metavar="DURATION",
            help="How long it may take; called again, it goes on.",
        ),
        named_nodes,
    ):
        function = option(function)
    return function


def _manage(
    nodes: Nodes, path: str, gone: Sequence[int], timeout: float, but: int | None = None, **asked: Any
) -> dict[str, Any]:
    """Let the first node do it that is not gone, or the one that it is about."""
    first = next((id_ for id_ in nodes.addresses if id_ not in gone and id_ != but), None)
    if first is None:
        raise click.UsageError("--gone: every node is said to be gone")
    asked |= {"gone": gone, "timeout": timeout}
    return nodes.ask(path, asked, timeout + 5, first)


def _resize(
    nodes: Nodes, path: str, acceptor: int, gone: Sequence[int], timeout: float, but: int | None = None
) -> None:
    told = _manage(nodes, path, gone, timeout, but, acceptor=acceptor)
    click.echo(f"{', '.join(map(str, told['acceptors']))} vote")


@registers.command(cls=Page)
@_looked_after
def collect(gone: Sequence[int], timeout: float, nodes: Nodes) -> None:
    """Forget the registers that have been deleted; all nodes are needed. Prints how many there were."""
    click.echo(f"{_manage(nodes, '/collect', gone, timeout)['removed']} removed")


@registers.command(cls=Page)
@click.argument("acceptor", type=int, metavar="ID")
@_looked_after
def grow(acceptor: int, gone: Sequence[int], timeout: float, nodes: Nodes) -> None:
    """Let one more node vote, that was started with --joins and an empty directory. Prints who votes then.

    All nodes must be named, the new one too: each is told where the others are, and keeps it.

    Examples:
      epaxos registers serve --id 3 --data registers-3 --joins
      epaxos registers grow 3
    """
    nodes.check(acceptor, str(acceptor))
    for id_ in nodes.addresses:
        if id_ not in gone:
            nodes.ask("/connect", {"nodes": nodes.addresses}, 5.0, id_)
    _resize(nodes, "/grow", acceptor, gone, timeout, acceptor)


@registers.command(cls=Page)
@click.argument("acceptor", type=int, metavar="ID")
@_looked_after
def shrink(acceptor: int, gone: Sequence[int], timeout: float, nodes: Nodes) -> None:
    """Let a node vote no more; it may be stopped then. Prints who votes then.

    Of a node that is dead for good, say so twice: its vote ends, and nobody waits for it.

    Examples:
      epaxos registers shrink 2
      epaxos registers shrink 2 --gone 2
    """
    _resize(nodes, "/shrink", acceptor, gone, timeout)


@registers.command(cls=Page)
@click.option(
    "--position", type=click.Path(path_type=Path), metavar="FILE", help="Go on from there; kept there."
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many.  [default: never]")
@named_nodes
def observe(position: Path | None, count: int | None, nodes: Nodes) -> None:
    """Print what is chosen as it comes, a line of JSON each: first what all registers hold, then every change.

    Examples:
      epaxos registers observe --position seen.json
    """
    transport = nodes.transport()
    after = None if position is None or not position.exists() else position_of(position.read_text("utf-8"))
    watched = Observer(partial(transport.ask, timeout=0.5), _Shape(nodes), after)
    kept = time.monotonic()
    try:
        for number, chosen in enumerate(watched, 1):
            shown = {"key": text_of(chosen.key), "value": text_of(chosen.value), "ballot": chosen.ballot}
            click.echo(json.dumps(shown))
            if number == count:
                break
            if time.monotonic() > kept + _KEPT:
                kept = time.monotonic()
                _keep(watched, position)
    finally:
        _keep(watched, position)
        transport.close()


def _keep(watched: Observer, position: Path | None) -> None:
    """Write a position in one act, if there is one."""
    if position is not None and watched.position is not None:
        new = position.with_name(f"{position.name}.new")
        new.write_text(text_of_position(watched.position), "utf-8")
        new.replace(position)


class _Shape:
    """Who votes, asked for now and then."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._known = Configuration(0, (), ())
        self._asked = float("-inf")

    def __call__(self) -> Configuration:
        if time.monotonic() > self._asked + _KEPT:
            told = self._nodes.ask("/status", {}, 2.0)
            found = Configuration(told["version"], tuple(told["prepare"]), tuple(told["accept"]))
            self._known = max(self._known, found)
            self._asked = time.monotonic()
        return self._known


@registers.command(cls=Page)
@named_nodes
def status(nodes: Nodes) -> None:
    """Print what each node says of itself, a line of JSON each; 3 if one does not answer."""
    missing = False
    for id_ in nodes.addresses:
        try:
            click.echo(json.dumps(nodes.ask("/status", {}, 2.0, id_)))
        except NoAnswer as error:
            click.echo(str(error), err=True)
            missing = True
    click.get_current_context().exit(Exit.NO_ANSWER if missing else Exit.DONE)


# -- the simulator ---------------------------------------------------------------------------------------


def _seeds(_: click.Context, __: click.Parameter, text: str | None) -> range | None:
    """A click callback, for which the simulator is imported only here."""
    check_installed("registers simulate", "bench", ("rich",))
    from epaxos.cli.simulate import seed_range  # noqa: PLC0415

    return seed_range(_, __, text)


@registers.command(cls=Page)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Run this seed.  [default: a fresh one]")
@click.option("--seeds", callback=_seeds, metavar="A:B", help="Run the seeds from A up to and without B.")
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Processes.  [default: one for each core]")
@scheduler_option
def simulate(seed: int | None, seeds: range | None, jobs: int | None, scheduler: str | None) -> None:
    """Run simulated registers and check them.

    Acceptors, proposers, clients and somebody who collects deleted registers and changes the acceptors, each a process
    with a clock and a disk of its own, under faults that the seed draws. The exit codes are those of `epaxos simulate`.

    Examples:
      epaxos registers simulate
      epaxos registers simulate --seeds 0:10000
    """
    from epaxos.simulation.registers import coverage  # noqa: PLC0415 - other commands shall not pay for it
    from epaxos.simulation.registers.plan import draw_plan  # noqa: PLC0415
    from epaxos.simulation.registers.run import run_seed  # noqa: PLC0415
    from epaxos.simulation.sweep.sweep import sweep  # noqa: PLC0415

    if seeds is not None and seed is not None:
        raise click.UsageError("--seed N and --seeds A:B exclude each other")
    if scheduler is not None and (seeds is None or jobs is not None):
        raise click.UsageError("--scheduler is for --seeds A:B, without --jobs")
    if seeds is None:
        first = SystemRandom().randrange(_FRESH) if seed is None else seed
        seeds = range(first, first + 1)
        click.echo(f"seed {first}\n{draw_plan(first).describe()}")
    summary = sweep(seeds, jobs=jobs, run=run_seed, scheduler=scheduler)
    for line in coverage.describe(summary):
        click.echo(line)
    if summary.interrupted:
        code: int = Exit.INTERRUPTED
    elif summary.failures:
        code = summary.verdict
    else:
        code = Exit.FAILED if coverage.missed(summary) else Exit.DONE
    click.get_current_context().exit(code)
