"""`epaxos status`: show how each replica does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from epaxos.cli.failures import complain
from epaxos.cli.options import config_option, load, timeout_option
from epaxos.cli.pages import Page
from epaxos.cli.survey import Survey, survey
from epaxos.client.asynchronous import AsyncClient
from epaxos.config import Config, format_duration

_NONE: Final = "-"
_PIPE_WIDTH: Final = 200  # columns of a table that is not printed to a terminal


@click.command(cls=Page)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with a digest of each replica's state.")
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=1.0,
    metavar="[SECONDS]",
    help="Ask again so often (every second if no number is given), until Ctrl-C.",
)
@config_option
@timeout_option("A replica that does not answer within this long is unreachable.")
@click.pass_context
def status(
    ctx: click.Context, *, as_json: bool, watch: float | None, config_file: str | None, timeout: float | None
) -> None:
    """Show how each replica of a cluster does. All are asked at the same time.

    The columns of the table:
      state      up, or silent: the reason is on stderr
      committed  for each replica, in the order of the table: the slot up to which
                 all instances that it proposed are committed here; - for none
      executed   the same of executed instances
      pending    instances that are known here, but not executed yet
      fast path  share of the replica's own commits that took the fast path
      peers      peers that it hears, of all its peers

    With --json: an object with "cluster", its name, and "replicas", a list of objects. Each has "name" and
    "reachable"; "error" if it is not reachable, else what it tells of itself, with "digest". Replicas with equal
    digests hold the same state, sessions of clients included. With --watch each line is such an object.

    Exit codes:
      0    all replicas answered
      1    some did
      2    wrong command line or configuration
      3    none did
      130  Ctrl-C, the end of --watch

    Examples:
      epaxos status -c conf/local.toml
      epaxos status --watch 5
      epaxos status --json | jq -r '.replicas[].digest'
    """
    config = load(config_file)
    limit = config.client.timeout if timeout is None else timeout
    if watch is not None:
        asyncio.run(_watch(config, limit, watch, as_json=as_json))
    found = asyncio.run(_once(config, limit, digest=as_json))
    if as_json:
        click.echo(json.dumps(found._asdict(), indent=2))
    else:
        _console().print(table(found))
        for replica in found.replicas:
            if not replica["reachable"]:
                complain(replica["error"], ctx.command_path)
    ctx.exit(found.exit_code)


async def _once(config: Config, limit: float, *, digest: bool) -> Survey:
    async with AsyncClient(config=config) as client:
        return await survey(client, config, limit, digest=digest)


async def _watch(config: Config, limit: float, interval: float, *, as_json: bool) -> NoReturn:
    """Ask every `interval` seconds until the task is cancelled."""
    async with AsyncClient(config=config) as client:
        with _lines() if as_json else _tables() as show:
            while True:
                pause = asyncio.create_task(asyncio.sleep(interval))
                show(await survey(client, config, limit, digest=as_json))
                await pause


@contextmanager
def _lines() -> Iterator[Callable[[Survey], None]]:
    """A function that prints a survey as a line of JSON."""
    yield lambda found: click.echo(json.dumps(found._asdict()))


@contextmanager
def _tables() -> Iterator[Callable[[Survey], None]]:
    """A function that prints a survey as a table, on a terminal in the place of the one before."""
    console = _console()
    if not console.is_terminal:
        yield lambda found: console.print(table(found))
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda found: live.update(table(found), refresh=True)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def table(found: Survey) -> Table:
    """The replicas as a table; on a narrow terminal the frontiers, which are the widest, take several lines."""
    title = f"Cluster {found.cluster}: {found.reachable} of {len(found.replicas)} replicas reachable"
    shown = Table(
        title=title,
        title_justify="left",
        title_style="",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in ("replica", "state", "version", "uptime"):
        shown.add_column(name, no_wrap=True)
    for name in ("committed", "executed"):
        shown.add_column(name, justify="right")
    for name in ("pending", "fast\npath", "peers"):
        shown.add_column(name, justify="right", no_wrap=True)
    for replica in found.replicas:
        shown.add_row(*_cells(replica), style=None if replica["reachable"] else "red")
    return shown


def _cells(replica: dict[str, Any]) -> list[str]:
    if not replica["reachable"]:
        return [replica["name"], "silent"]
    peers = replica["peers"].values()
    ratio = replica["fast_path_ratio"]
    return [
        replica["name"],
        _state(replica),
        replica["version"],
        _uptime(replica["uptime_s"]),
        _frontier(replica["committed"]),
        _frontier(replica["executed"]),
        str(replica["pending"]),
        _NONE if ratio is None else f"{ratio:.1%}",
        f"{sum(peer['online'] for peer in peers)}/{len(peers)}",
    ]


def _state(replica: dict[str, Any]) -> str:
    """In two words at most what a replica that answers is doing."""
    if replica.get("storage_failed"):
        return "disk failed"
    return "catching up" if replica.get("catch_up") else "up"


def _uptime(seconds: float) -> str:
    """The time without seconds where it has hours."""
    return format_duration(int(seconds) if seconds < 3600 else seconds // 60 * 60)


def _frontier(slots: list[int]) -> str:
    """The slots in the order of the rows; a row without any is at -1."""
    return " ".join(_NONE if slot < 0 else str(slot) for slot in slots)
