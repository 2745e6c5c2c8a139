"""`epaxos registers`: single values by consensus, without a cluster."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, TypeVar

import click

from epaxos.cli.failures import Exit, check_installed
from epaxos.cli.options import positive_duration
from epaxos.cli.pages import Page
from epaxos.errors import NoAnswer
from epaxos.protocol.registers.values import Configuration
from epaxos.registers.http import HttpServer, HttpTransport, ask_json, text_of
from epaxos.registers.node import Node
from epaxos.registers.observer import Observer, position_of, text_of_position
from epaxos.registers.store import EngineStore, MemoryStore
from epaxos.transport.registers import ID_MAX

Function = TypeVar("Function", bound=Callable[..., Any])
Addresses = Mapping[int, tuple[str, int]]

VARIABLE: Final = "EPAXOS_REGISTERS"
_FRESH: Final = 10**9
_KEPT: Final = 1.0
"""Seconds between two looks at who votes, and between two notes of an observer's position."""


class _Group(Page, click.Group):
    """A group whose help keeps its examples."""


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def registers() -> None:
    """Registers: single values by consensus, each for itself (CASPaxos), without a cluster.

    Nodes are named by their numbers and addresses, with --node or the variable EPAXOS_REGISTERS, parted by commas,
    like 0=localhost:4300,1=localhost:4301,2=localhost:4302.

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


def _addresses(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> Addresses:
    """A click callback: the nodes that are named."""
    texts = given or tuple(filter(None, os.environ.get(VARIABLE, "").split(",")))
    if not texts:
        raise click.BadParameter(f"no node is named; use --node ID=HOST:PORT, or the variable {VARIABLE}")
    found: dict[int, tuple[str, int]] = {}
    for text in texts:
        id_, equals, address = text.strip().partition("=")
        host, colon, port = address.rpartition(":")
        if not (equals and colon and host and id_.isdecimal() and port.isdecimal() and 0 < int(port) < 65536):
            raise click.BadParameter(f"found {text!r}; allowed: ID=HOST:PORT, like 0=localhost:4300")
        if int(id_) > ID_MAX or int(id_) in found:
            raise click.BadParameter(f"found {text!r}; allowed: ids from 0 to {ID_MAX}, each once")
        found[int(id_)] = (host.strip("[]"), int(port))
    return found


def _nodes(function: Function) -> Function:
    return click.option(
        "--node",
        "addresses",
        multiple=True,
        metavar="ID=HOST:PORT",
        callback=_addresses,
        help=f"A node; give all of them.  [default: {VARIABLE}]",
    )(function)


def _timeout(function: Function) -> Function:
    return click.option(
        "--timeout",
        default="2s",
        show_default=True,
        callback=positive_duration,
        metavar="DURATION",
        help="How long a majority may take.",
    )(function)


def _propose(addresses: Addresses, timeout: float, key: str, change: str, *arguments: Any) -> dict[str, Any]:
    """Propose through one node, or another if that is not there: once, whoever does it in the end."""
    asked = {
        "key": key,
        "change": change,
        "arguments": arguments,
        "once": [SystemRandom().randrange(2**63), 1],
        "timeout": timeout,
    }
    return ask_json(addresses, "/propose", asked, timeout + 1)


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
@click.option("--joins", is_flag=True, help="It votes only after `epaxos registers grow`; others do already.")
@_nodes
def serve(
    id_: int, data: Path | None, *, memory: bool, listen: str | None, joins: bool, addresses: Addresses
) -> None:
    """Run a node, until Ctrl-C or a SIGTERM.

    Examples:
      epaxos registers serve --id 0 --data registers-0
    """
    if id_ not in addresses:
        raise click.UsageError(
            f"--id {id_}: no node has this number; there are {', '.join(map(str, addresses))}"
        )
    check_installed("registers serve", "server", ("starlette", "uvicorn"))
    if memory == (data is not None):
        raise click.UsageError("one of --data DIR and --memory is needed, and only one")
    store = MemoryStore() if data is None else EngineStore(data, id_)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    host, port = addresses[id_]
    others = {other: address for other, address in addresses.items() if other != id_}
    acceptors = ask_json(others, "/status", {}, 2.0)["accept"] if joins else None
    with Node(id_, store, HttpTransport(addresses), acceptors=acceptors) as node:
        node.connect(*addresses)
        with HttpServer(node, listen or host, port):
            click.echo(f"node {id_} of registers listens on {listen or host}:{port}", err=True)
            stop.wait()
    if isinstance(store, EngineStore):
        store.close()


# -- registers ---------------------------------------------------------------------------------------------


@registers.command(cls=Page)
@click.argument("key")
@_timeout
@_nodes
def get(key: str, timeout: float, addresses: Addresses) -> None:
    """Print the value of a register; 1 if it holds none."""
    _print(_propose(addresses, timeout, key, "get")["value"])


@registers.command(cls=Page)
@click.argument("key")
@click.argument("value")
@_timeout
@_nodes
def put(key: str, value: str, timeout: float, addresses: Addresses) -> None:
    """Set the value of a register."""
    _propose(addresses, timeout, key, "put", value)


@registers.command(cls=Page)
@click.argument("key")
@_timeout
@_nodes
def delete(key: str, timeout: float, addresses: Addresses) -> None:
    """Remove the value of a register; 1 if it holds none."""
    if not _propose(addresses, timeout, key, "delete")["result"]:
        click.get_current_context().exit(Exit.FAILED)


@registers.command(cls=Page)
@click.argument("key")
@click.argument("value")
@click.option("--expected", metavar="VALUE", help="What it must hold; without it, nothing.")
@_timeout
@_nodes
def cas(key: str, value: str, expected: str | None, timeout: float, addresses: Addresses) -> None:
    """Set the value of a register if it is the expected one; else print what it is, and end with 1."""
    told = _propose(addresses, timeout, key, "cas", expected, value)
    if not told["swapped"]:
        if told["current"] is not None:
            _print(told["current"])
        click.get_current_context().exit(Exit.FAILED)


@registers.command(cls=Page)
@click.argument("name")
@click.argument("value")
@_timeout
@_nodes
def decide(name: str, value: str, timeout: float, addresses: Addresses) -> None:
    """Decide a name's value for ever (simple Paxos), and print what is decided: this value, or an earlier one."""
    _print(_propose(addresses, timeout, name, "keep", value)["result"])


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
        _nodes,
    ):
        function = option(function)
    return function


def _manage(
    addresses: Addresses, path: str, gone: Sequence[int], timeout: float, **asked: Any
) -> dict[str, Any]:
    """Let the first node do it that is not gone."""
    first = next((item for item in addresses.items() if item[0] not in gone), None)
    if first is None:
        raise click.UsageError("--gone: every node is said to be gone")
    asked |= {"gone": gone, "timeout": timeout}
    return ask_json(dict([first]), path, asked, timeout + 5)


def _resize(addresses: Addresses, path: str, acceptor: int, gone: Sequence[int], timeout: float) -> None:
    told = _manage(addresses, path, gone, timeout, acceptor=acceptor)
    click.echo(f"{', '.join(map(str, told['acceptors']))} vote")


@registers.command(cls=Page)
@_looked_after
def collect(gone: Sequence[int], timeout: float, addresses: Addresses) -> None:
    """Forget the registers that have been deleted; all nodes are needed. Prints how many there were."""
    click.echo(f"{_manage(addresses, '/collect', gone, timeout)['removed']} removed")


@registers.command(cls=Page)
@click.argument("acceptor", type=int, metavar="ID")
@_looked_after
def grow(acceptor: int, gone: Sequence[int], timeout: float, addresses: Addresses) -> None:
    """Let one more node vote, that was started with --joins and an empty directory. Prints who votes then.

    All nodes must be named, the new one too: each is told where the others are, and keeps it.

    Examples:
      epaxos registers serve --id 3 --data registers-3 --joins
      epaxos registers grow 3
    """
    if acceptor not in addresses:
        raise click.UsageError(
            f"{acceptor}: no node has this number; there are {', '.join(map(str, addresses))}"
        )
    for id_, address in addresses.items():
        if id_ not in gone:
            ask_json({id_: address}, "/connect", {"nodes": addresses}, 5.0)
    others = {id_: address for id_, address in addresses.items() if id_ != acceptor}
    _resize(others, "/grow", acceptor, gone, timeout)


@registers.command(cls=Page)
@click.argument("acceptor", type=int, metavar="ID")
@_looked_after
def shrink(acceptor: int, gone: Sequence[int], timeout: float, addresses: Addresses) -> None:
    """Let a node vote no more; it may be stopped then. Prints who votes then.

    Of a node that is dead for good, say so twice: its vote ends, and nobody waits for it.

    Examples:
      epaxos registers shrink 2
      epaxos registers shrink 2 --gone 2
    """
    _resize(addresses, "/shrink", acceptor, gone, timeout)


@registers.command(cls=Page)
@click.option(
    "--position", type=click.Path(path_type=Path), metavar="FILE", help="Go on from there; kept there."
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many.  [default: never]")
@_nodes
def observe(position: Path | None, count: int | None, addresses: Addresses) -> None:
    """Print what is chosen as it comes, a line of JSON each: first what all registers hold, then every change.

    Examples:
      epaxos registers observe --position seen.json
    """
    transport = HttpTransport(addresses)
    after = None if position is None or not position.exists() else position_of(position.read_text("utf-8"))
    watched = Observer(partial(transport.ask, timeout=0.5), _Shape(addresses), after)
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

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._known = Configuration(0, (), ())
        self._asked = float("-inf")

    def __call__(self) -> Configuration:
        if time.monotonic() > self._asked + _KEPT:
            told = ask_json(self._addresses, "/status", {}, 2.0)
            found = Configuration(told["version"], tuple(told["prepare"]), tuple(told["accept"]))
            self._known = max(self._known, found)
            self._asked = time.monotonic()
        return self._known


@registers.command(cls=Page)
@_nodes
def status(addresses: Addresses) -> None:
    """Print what each node says of itself, a line of JSON each; 3 if one does not answer."""
    missing = False
    for id_, address in addresses.items():
        try:
            click.echo(json.dumps(ask_json({id_: address}, "/status", {}, 2.0)))
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
def simulate(seed: int | None, seeds: range | None, jobs: int | None) -> None:
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
    if seeds is None:
        first = SystemRandom().randrange(_FRESH) if seed is None else seed
        seeds = range(first, first + 1)
        click.echo(f"seed {first}\n{draw_plan(first).describe()}")
    summary = sweep(seeds, jobs=jobs, run=run_seed)
    for line in coverage.describe(summary):
        click.echo(line)
    if summary.interrupted:
        code: int = Exit.INTERRUPTED
    elif summary.failures:
        code = summary.verdict
    else:
        code = Exit.FAILED if coverage.missed(summary) else Exit.DONE
    click.get_current_context().exit(code)
