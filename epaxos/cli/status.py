"""`epaxos status`: show how each replica does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, nullcontext
from itertools import accumulate
from operator import sub
from time import monotonic
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from epaxos.cli.failures import Exit
from epaxos.cli.options import clusters_of, config_option, load_any, timeout_option
from epaxos.cli.pages import Page
from epaxos.cli.survey import Survey, survey
from epaxos.client.asynchronous import AsyncClient
from epaxos.config import Config, format_duration
from epaxos.protocol.ids import slots_text

Clusters: TypeAlias = "Mapping[str, Config]"
"""Clusters by the names of their groups; "" is that of one alone."""

Surveys: TypeAlias = "dict[str, Survey]"

_NONE: Final = "-"
_PIPE_WIDTH: Final = 200  # columns of a table that is not printed to a terminal
_LIVELY: Final = ("cmd/s", "mean\nms", "p99\nms")


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
@click.option(
    "--slots",
    is_flag=True,
    help="Show how far each replica is in each row of the log, instead of one number.",
)
@config_option
@timeout_option("A replica that does not answer within this long is unreachable.")
@click.pass_context
def status(
    ctx: click.Context,
    *,
    as_json: bool,
    watch: float | None,
    slots: bool,
    config_file: str | None,
    timeout: float | None,
) -> None:
    """Show whether a cluster serves and how each replica does. All are asked at the same time.

    The first line says whether there is a quorum, how many replicas it takes, and how many more may fail.

    The columns of the table below it:
      state      up (leads: it is the leader, of multipaxos), or silent, no
                 quorum, draining, …: the lines below say more
      behind     instances that some replica has committed and this one has not
                 executed; a few under load, as not all answer at once
      pending    instances that are known here, but not executed yet
      fast path  share of the replica's own commits that took the fast path
      peers      peers that it hears and that hear it, of all its peers
    With --slots, in the place of "behind":
      committed  for each replica, in the order of the table: the slot up to which
                 all instances that it proposed are committed here; - for none
      executed   the same of executed instances
    With --watch, unless with --slots, over the time since it asked before:
      cmd/s      commands of clients that this replica has proposed, a second
      mean, p99  milliseconds from proposal to execution of its instances

    Under the table is a line for each reason why a replica does not serve.

    With a file of groups (docs/groups.md) that is shown of each group.

    With --json: an object with "cluster", "quorum" and "replicas", or of groups "groups", which has such an object of
    each by its name; docs/cli.md describes it. Replicas whose "digest"
    is equal hold the same state, sessions of clients included. With --watch each line is such an object.

    Exit codes:
      0    all replicas answered, and there is a quorum
      1    some did not, or there is none
      2    wrong command line or configuration
      3    no replica answered
      130  Ctrl-C, the end of --watch

    Examples:
      epaxos status -c conf/local.toml
      epaxos status --watch 5
      epaxos status --json | jq -r '.replicas[].digest'
    """
    clusters = clusters_of(load_any(config_file))
    if watch is not None:
        asyncio.run(_watch(clusters, timeout, watch, as_json=as_json, slots=slots))
    found = asyncio.run(_once(clusters, timeout, digest=as_json))
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=2))
    else:
        _console().print(_pages_of(found, {}, slots=slots))
    codes = {survey.exit_code for survey in found.values()}
    ctx.exit(codes.pop() if len(codes) == 1 else Exit.FAILED)


async def _once(clusters: Clusters, limit: float | None, *, digest: bool) -> Surveys:
    async with AsyncExitStack() as stack:
        clients = await _clients(stack, clusters)
        return await _surveys(clusters, clients, limit, digest=digest)


async def _watch(
    clusters: Clusters, limit: float | None, interval: float, *, as_json: bool, slots: bool
) -> NoReturn:
    """Ask every `interval` seconds until the task is cancelled."""
    watched = {name: Watched() for name in clusters}
    async with AsyncExitStack() as stack:
        clients = await _clients(stack, clusters)
        with nullcontext(click.echo) if as_json else _pages() as show:
            while True:
                pause = asyncio.create_task(asyncio.sleep(interval))
                found = await _surveys(clusters, clients, limit, digest=as_json)
                now = monotonic()
                paces = {} if slots else {name: watched[name].paces(one, now) for name, one in found.items()}
                show(json.dumps(_as_json(found)) if as_json else _pages_of(found, paces, slots=slots))
                await pause


async def _clients(stack: AsyncExitStack, clusters: Clusters) -> dict[str, AsyncClient]:
    return {
        name: await stack.enter_async_context(AsyncClient(config=config)) for name, config in clusters.items()
    }


async def _surveys(
    clusters: Clusters, clients: Mapping[str, AsyncClient], limit: float | None, *, digest: bool
) -> Surveys:
    asking = [
        survey(clients[name], config, limit or config.client.timeout, digest=digest)
        for name, config in clusters.items()
    ]
    return dict(zip(clusters, await asyncio.gather(*asking), strict=True))


def _as_json(found: Surveys) -> dict[str, Any]:
    if "" in found:
        return found[""].as_json()
    return {"groups": {name: survey.as_json() for name, survey in found.items()}}


def _pages_of(found: Surveys, paces: Mapping[str, dict[str, Pace]], *, slots: bool) -> Group:
    """The pages of all clusters, those of groups under their names."""
    parts: list[RenderableType] = []
    for name, one in found.items():
        parts += [Text(f"group {name}", style="bold")] if name else []
        parts.append(page(one, paces.get(name), slots=slots))
    return Group(*parts)


@contextmanager
def _pages() -> Iterator[Callable[[Any], None]]:
    """A function that prints a page, on a terminal in the place of the one before."""
    console = _console()
    if not console.is_terminal:
        yield console.print
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda shown: live.update(shown, refresh=True)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


# -- what is shown -------------------------------------------------------------------------------------------


class Pace(NamedTuple):
    """What a replica did between two answers: commands a second, and latencies in seconds if it executed any."""

    rate: float
    mean: float | None
    p99: float | None


class Watched:
    """The answers before, which those that follow are compared with."""

    def __init__(self) -> None:
        self._before: dict[str, dict[str, Any]] = {}
        self._at = 0.0

    def paces(self, found: Survey, now: float) -> dict[str, Pace]:
        """Of each replica that answered this time and the time before, and has not started anew in between."""
        before, self._before = self._before, {it["name"]: it for it in found.replicas if it["reachable"]}
        elapsed, self._at = now - self._at, now
        return {
            name: _pace(before[name], after, elapsed)
            for name, after in self._before.items()
            if name in before and before[name]["uptime_s"] < after["uptime_s"]
        }


def _pace(before: dict[str, Any], after: dict[str, Any], elapsed: float) -> Pace:
    earlier, later = before["latency"], after["latency"]
    counts = [*map(sub, later["counts"], earlier["counts"])]
    mean = (later["sum_s"] - earlier["sum_s"]) / sum(counts) if any(counts) else None
    rate = (after["proposals"] - before["proposals"]) / elapsed
    return Pace(rate, mean, quantile(0.99, later["bounds_s"], counts))


def quantile(share: float, bounds: Sequence[float], counts: Sequence[int]) -> float | None:
    """Below what that share of the observations is, taken as even inside a bucket; the last bound if beyond it."""
    wanted, below = share * sum(counts), 0
    if not wanted:
        return None
    for lower, upper, count, reached in zip((0.0, *bounds), bounds, counts, accumulate(counts), strict=False):
        if reached >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below = reached
    return bounds[-1]


def page(found: Survey, paces: dict[str, Pace] | None = None, *, slots: bool = False) -> Group:
    """Whether the cluster serves, the replicas as a table, and why some of them do not serve.

    With `paces`, or neither, it is a line a replica in 80 columns; with `slots` it has frontiers, which take several
    lines on a narrow terminal.
    """
    headline = Text(found.headline, style="" if found.headline.startswith("quorum") else "bold red")
    levels = [Text(found.levels)] if found.newer else []
    return Group(headline, _table(found, paces, slots=slots), *levels, *map(Text, found.reasons))


def _table(found: Survey, paces: dict[str, Pace] | None, *, slots: bool) -> Table:
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("replica", "state", *(("version", "uptime") if paces is None else ())):
        shown.add_column(name, no_wrap=True)
    for name in ("committed", "executed") if slots else ("behind",):
        shown.add_column(name, justify="right", no_wrap=not slots)
    for name in ("pending", *(() if paces is None else _LIVELY), "fast\npath", "peers"):
        shown.add_column(name, justify="right", no_wrap=True)
    for replica in found.replicas:
        style = None if replica["reachable"] and not replica["reasons"] else "red"
        shown.add_row(*_cells(replica, paces, slots=slots), style=style)
    return shown


def _cells(replica: dict[str, Any], paces: dict[str, Pace] | None, *, slots: bool) -> list[str]:
    if not replica["reachable"]:
        return [replica["name"], "silent"]
    peers = replica["peers"].values()
    ratio = replica["fast_path_ratio"]
    frontiers = [slots_text(replica["committed"]), slots_text(replica["executed"])]
    return [
        replica["name"],
        _state(replica),
        *((replica["version"], _uptime(replica["uptime_s"])) if paces is None else ()),
        *(frontiers if slots else [str(replica["behind"])]),
        str(replica["pending"]),
        *(() if paces is None else _pace_cells(paces.get(replica["name"]))),
        _NONE if ratio is None else f"{ratio:.1%}",
        f"{sum(peer['online'] for peer in peers)}/{len(peers)}",
    ]


def _pace_cells(pace: Pace | None) -> list[str]:
    if pace is None:
        return [_NONE] * len(_LIVELY)
    return [f"{pace.rate:,.0f}", _milliseconds(pace.mean), _milliseconds(pace.p99)]


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:,.0f}"


def _state(replica: dict[str, Any]) -> str:
    """In two words at most what a replica that answers is doing: how its first reason begins, the disk's before all."""
    if replica["storage_failed"]:
        return "disk failed"
    if replica.get("storage_full"):
        return "up, disk full"
    if replica["checkpoint_refused"]:
        return "up, no checkpoint"
    if replica["reasons"]:
        return str(replica["reasons"][0]).partition(":")[0]
    if replica.get("observes"):
        return "observes"
    return "up, leads" if replica.get("leader") == (replica.get("id") or replica["name"]) else "up"


def _uptime(seconds: float) -> str:
    """The time without seconds where it has hours."""
    return format_duration(int(seconds) if seconds < 3600 else seconds // 60 * 60)
