"""`epaxos inspect`: show what a replica's data directory holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from epaxos.cli.options import writable
from epaxos.cli.pages import Page
from epaxos.cli.streams import write_text
from epaxos.inspection.contents import Contents, read_contents
from epaxos.inspection.dot import as_dot
from epaxos.inspection.graph import choose
from epaxos.inspection.place import describe
from epaxos.inspection.summary import summarise
from epaxos.inspection.svg import draw
from epaxos.inspection.wording import place_name, read_place
from epaxos.protocol.ids import InstanceId

_NONE = "-"


@click.command(cls=Page)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--instance", metavar="R.S", help="Show one instance, like A.17 or 0.17, instead of the whole.")
@click.option(
    "--graph",
    metavar="FILE.svg|.dot",
    callback=writable,
    help="Draw a piece of the dependency graph into a file: a picture, or what Graphviz reads if FILE ends with "
    ".dot or .gv; - for a picture on stdout.",
)
@click.option(
    "--around", metavar="R.S", help="With --graph: around this instance.  [default: what is pending]"
)
@click.option(
    "--depth",
    type=click.IntRange(0, 1000),
    default=3,
    show_default=True,
    help="With --graph: draw what is up to so many edges away.",
)
@click.option(
    "--nodes",
    type=click.IntRange(1, 1000),
    default=60,
    show_default=True,
    help="With --graph: draw so many instances at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(
    directory: Path,
    *,
    instance: str | None,
    graph: str | None,
    around: str | None,
    depth: int,
    nodes: int,
    as_json: bool,
) -> None:
    """Show what DIR holds, the data directory of one replica: the key storage.directory, with the replica's name.

    Nothing in DIR is changed, and the replica may run meanwhile. While DIR is read without its replica, that
    cannot start. Rows have letters, A for the first, in the order of the replicas' pids.

    The columns of the table, each a slot, - for none:
      truncated   up to here instances were dropped
      checkpoint  up to here they had executed in the last checkpoint
      executed    up to here they execute with what is in the log
      committed   up to here they are committed
      highest     the highest one that anything here speaks of

    Below it: undecided instances are not committed here, waiting ones are, but cannot execute yet.

    With --graph, from left to right is the order of execution: what stands in one column need not wait for one
    another. Boxes have the keys of their commands. An arrow points from an instance to one that it depends on, and so
    on all below that one in its row. Arrows that follow from others are left out; those of cycles are dashed.

    Exit codes:
      0  done
      1  DIR is no data directory, or damaged
      2  wrong command line

    Examples:
      epaxos inspect epaxos-data/alpha
      epaxos inspect epaxos-data/alpha --instance B.17
      epaxos inspect epaxos-data/alpha --graph pending.svg
      epaxos inspect epaxos-data/alpha --graph piece.svg --around B.17 --depth 5
      epaxos inspect epaxos-data/alpha --graph piece.dot && dot -Tpdf -O piece.dot
    """
    contents = read_contents(directory)
    if graph is not None:
        _draw(contents, graph, _place(contents, around, "--around"), depth, nodes)
        return
    place = _place(contents, instance, "--instance")
    told = summarise(contents) if place is None else describe(contents, place)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    elif place is None:
        _print_summary(told)
    else:
        click.echo("\n".join(_instance_lines(told)))


def _place(contents: Contents, text: str | None, option: str) -> InstanceId | None:
    if text is None:
        return None
    try:
        return read_place(text, contents.configuration.n)
    except ValueError as error:
        raise click.UsageError(f"{option}: found {text!r}; {error}") from error


def _draw(contents: Contents, file: str, around: InstanceId | None, depth: int, nodes: int) -> None:
    graph = choose(contents, around, depth, nodes)
    what = "what is pending" if around is None else place_name(around)
    title = f"{contents.path}, around {what}: {len(graph.nodes)} instances"
    if graph.left_out:
        title += f", {graph.left_out} more left out"
    write_text((as_dot if file.endswith((".dot", ".gv")) else draw)(graph, title), file)
    if file != "-":
        click.echo(f"{file}: {title}")


def _print_summary(told: dict[str, Any]) -> None:
    row = "no vote" if told["row"] is None else f"row {told['rows'][told['row']]['letter']} of {told['n']}"
    click.echo(
        f"{told['directory']}: replica {told['name']}, {row}, "
        f"cluster {told['cluster']}, epoch {told['epoch']}; level {told['level']}, engine {told['engine']}"
    )
    if told["used_by"] is not None:
        click.echo(f"In use by process {told['used_by']}: shown as it was a moment ago.")
    _console().print(_table(told["rows"]))
    click.echo("\n".join(_figures(told)))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def _table(rows: list[dict[str, Any]]) -> Table:
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown.add_column("row")
    for name in ("truncated", "checkpoint", "executed", "committed", "highest", "incarnation"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        slots = (row[name] for name in ("truncated", "checkpoint", "executed", "committed", "highest"))
        cells = [_NONE if slot < 0 else str(slot) for slot in slots]
        shown.add_row(row["letter"], *cells, row["incarnation"] or _NONE)
    return shown


def _figures(told: dict[str, Any]) -> Iterator[str]:
    phases = ", ".join(f"{count} {phase}" for phase, count in told["instances"].items() if count)
    checkpoint = told["checkpoint"]
    files = ", ".join(f"{name} {size}" for name, size in told["sizes"].items())
    yield f"instances       {phases or 'none'}"
    for name in ("undecided", "waiting", "executed_above"):
        counted = told[name]
        lowest = " ".join(counted["lowest"]) + (" …" if counted["count"] > len(counted["lowest"]) else "")
        yield f"{name.replace('_', ' '):15} {counted['count']}" + (f": {lowest}" if lowest else "")
    if checkpoint is None:
        yield "checkpoint      none yet"
    else:
        yield (
            f"checkpoint      {checkpoint['keys']} keys, {checkpoint['deleted']} more without a value, "
            f"{checkpoint['sessions']} sessions"
            + ("" if checkpoint["epoch"] == told["epoch"] else f"; of epoch {checkpoint['epoch']}")
        )
    if told["earlier_epochs"]:
        yield f"earlier epochs  {', '.join(map(str, told['earlier_epochs']))}: what leads to epoch {told['epoch']}"
    yield f"bytes           {sum(told['sizes'].values())}: {files}"


def _instance_lines(told: dict[str, Any]) -> Iterator[str]:
    yield f"{told['instance']}: {told['state']}"
    for name in ("phase", "bal", "abal", "seq", "deps", "value", "init", "orig"):
        if told.get(name) is not None:
            yield f"  {name:10} {told[name]}"
    for name in ("depends_on", "needed_by"):
        for other in told.get(name, ()):
            more = f", the first of {other['of_its_row']} in its row" if name == "needed_by" else ""
            yield f"  {name.replace('_', ' '):10} {other['instance']} ({other['state']}{more})"
    for command in told.get("commands", ()):
        yield f"  {command}"
