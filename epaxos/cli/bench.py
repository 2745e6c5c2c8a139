"""`epaxos bench`: load a running cluster and report what it did."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
from click.core import ParameterSource
from rich.console import Console

from epaxos.bench.groups import CALLERS, OF_GROUPS, GroupsOptions, Load
from epaxos.bench.groups import as_json as groups_json
from epaxos.bench.groups import as_table as groups_table
from epaxos.bench.machine import describe_machine
from epaxos.bench.options import (
    DEFAULT_BATCH,
    DEFAULT_DURATION,
    DEFAULT_KEYS,
    DEFAULT_WINDOW,
    Amount,
    BenchOptions,
    OptionError,
)
from epaxos.bench.progress import ProgressBar
from epaxos.bench.report import as_json, as_table, remarks, title
from epaxos.bench.run import Nobody, Result, config_of_now, run_bench
from epaxos.bench.series import lines_of
from epaxos.cli.failures import Exit, check_installed, complain
from epaxos.cli.options import (
    STDOUT,
    config_option,
    duration,
    find_replica,
    load_any,
    positive_duration,
    timeout_option,
    writable,
    write_json,
)
from epaxos.cli.pages import Page
from epaxos.cli.streams import write_text
from epaxos.client.reading import READS
from epaxos.config import Config

if TYPE_CHECKING:
    from epaxos.groups.map import Groups

SHORTEST: Final = 0.1
INTERVALS: Final = 100
"""Of the series that charts show: seconds of one at least, and how many there are by default."""


def amount(context: click.Context, option: click.Parameter, text: str) -> Amount:
    """A click callback: a plain number of commands, or a duration."""
    if text.isdecimal():
        return Amount(operations=int(text))
    return Amount(seconds=duration(context, option, text))


@click.command(cls=Page)
@config_option
@click.option("--operations", type=int, metavar="N", help="Stop after N commands.")
@click.option(
    "--duration",
    callback=positive_duration,
    metavar="DURATION",
    help=f"Stop after this long.  [default: {DEFAULT_DURATION:g}s, unless --operations is given]",
)
@click.option(
    "--warmup",
    callback=amount,
    metavar="N|DURATION",
    default="0",
    show_default=True,
    help="Load that comes first and is not counted: a duration (2s) or a number of commands (5000).",
)
@click.option(
    "--window",
    type=int,
    metavar="N",
    help="Open loop: each client keeps N commands outstanding, sending without waiting for answers.  "
    f"[default: {DEFAULT_WINDOW}]",
)
@click.option("--closed", is_flag=True, help="Closed loop: each client has one command outstanding.")
@click.option(
    "--rate",
    type=float,
    metavar="R",
    help="Open loop by schedule: R commands a second over all clients. Latency counts from when a command "
    "was due, also when the window was full.",
)
@click.option("--clients", type=int, metavar="N", help="Client sessions.  [default: one for each replica]")
@click.option(
    "--connections",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Connections to each replica, shared by its clients in turn.",
)
@click.option(
    "--replicas",
    metavar="NAME,...",
    help="The replicas to load; clients are given to them in turn.  [default: all]",
)
@click.option(
    "--batch",
    type=int,
    metavar="N",
    help="Commands in one frame at most, as the client library coalesces the commands that are due (and at "
    f"most 1 MiB, as there). 1 sends each by itself.  [default: {DEFAULT_BATCH}]",
)
@click.option(
    "--keys",
    type=int,
    default=DEFAULT_KEYS,
    show_default=True,
    metavar="N",
    help="Private keys, shared out among the clients; with --zipf the keys that all clients use.",
)
@click.option("--key-size", type=int, default=8, show_default=True, metavar="BYTES", help="Size of a key.")
@click.option(
    "--value-size", type=int, default=8, show_default=True, metavar="BYTES", help="Size of a value."
)
@click.option(
    "--writes", type=float, default=100, show_default=True, metavar="PCT", help="Writes; the rest are reads."
)
@click.option(
    "--reads",
    type=click.Choice(READS),
    default="log",
    show_default=True,
    help="How to read; if not by the log, a frame has reads or writes, not both. Observers are those of the file.",
)
@click.option(
    "--conflicts",
    type=float,
    default=0,
    show_default=True,
    metavar="PCT",
    help="Commands on one hot key that all clients use; the rest are on the client's private keys.",
)
@click.option(
    "--zipf",
    type=float,
    metavar="S",
    help="Instead of --conflicts: all clients use all keys, with popularity 1/rank^S.",
)
@click.option(
    "--across",
    type=float,
    default=0,
    show_default=True,
    metavar="PCT",
    help="Of groups: commands that write two keys of two groups, as one.",
)
@click.option(
    "--within",
    type=float,
    default=0,
    show_default=True,
    metavar="PCT",
    help="Of groups: commands that write two keys of one group, as one.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="The same seed gives the same commands.",
)
@timeout_option("A command without answer is an error after this long, all tries together, like 500ms.")
@click.option(
    "--tries", type=int, metavar="N", help="Replicas tried, the first included.  [default: client.tries]"
)
@click.option(
    "--floor",
    is_flag=True,
    help="Also measure two bare ZeroMQ round trips, in short pauses of the load, and compare.",
)
@click.option(
    "--series",
    callback=positive_duration,
    metavar="DURATION",
    help="Also count answers and their latencies in each interval of this length, for --json, --html and --plot. "
    "[default: with the last two a hundredth of --duration, and 100ms at least]",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Check every answer and, afterwards, that all replicas hold the same state. Writes to shared keys "
    "then also return the value before them. Takes about 500 bytes of memory for each command.",
)
@click.option(
    "--progress/--no-progress", default=None, help="The progress bar.  [default: if stderr is a terminal]"
)
@click.option(
    "--json", "json_file", callback=writable, metavar="FILE", help="Write the report as JSON; - for stdout."
)
@click.option(
    "--html",
    "html_file",
    callback=writable,
    metavar="FILE",
    help="Write the report as one page with charts, which needs nothing else; - for stdout.",
)
@click.option("--plot", is_flag=True, help="Draw throughput and latency below the table.")
def bench(
    config_file: str | None,
    json_file: str | None,
    html_file: str | None,
    plot: bool,  # noqa: FBT001  click passes it by name
    progress: bool | None,  # noqa: FBT001  click passes it by name
    **given: Any,
) -> None:
    """Load a running cluster and print a table of what it did.

    Needs a running cluster (epaxos up). By default one client for each replica keeps 1000 writes of 8 bytes
    outstanding, on keys that do not conflict, for 5 seconds. Keys are decimal numbers such as 00000042; what
    the store held under them is overwritten.

    Throughput is answered commands by the time from the first one's sending to the last one's answer.
    Latency is that of each command from when it was due. The fast path's share is that of the instances
    which the loaded replicas committed meanwhile.

    With a file of groups (docs/groups.md) the load comes from the client library: --clients callers (32 by default)
    have one command each outstanding, on keys of their own. Of the options about the load --operations, --duration,
    --warmup, --clients, --keys, --value-size, --writes, --across, --within, --seed and --timeout can be used.

    Exit codes:
      0    done
      1    errors, a replica that does not answer, or a failed --verify
      2    wrong options or configuration
      3    no replica answers
      130  interrupted by Ctrl-C; what was measured until then is printed

    Examples:
      epaxos bench -c conf/local.toml
      epaxos bench -c conf/local.toml --closed --clients 1 --floor
      epaxos bench -c conf/local.toml --operations 200000 --conflicts 25 --verify
      epaxos bench -c conf/local.toml --rate 9000 --writes 50 --zipf 0.99 --json -
      epaxos bench -c conf/local.toml --duration 30s --plot --html report.html
    """
    context = click.get_current_context()
    if json_file == html_file == STDOUT:
        raise click.UsageError("--json - and --html - exclude each other: one of them goes to stdout")
    config = load_any(config_file)
    if not isinstance(config, Config):
        if html_file is not None or plot:
            raise click.UsageError("--html and --plot need a file of one cluster, not of groups")
        context.exit(_bench_groups(context, config, given, json_file))
    config = config_of_now(config)
    charts = Charts(html_file, plot=plot)
    charts.check()
    if charts.wanted and given["series"] is None:
        given["series"] = max(SHORTEST, (given["duration"] or DEFAULT_DURATION) / INTERVALS)
    try:
        options = make_options(config, **given)
    except OptionError as error:
        raise click.UsageError(str(error)) from error
    errors = Console(stderr=True, highlight=False, force_terminal=progress or None)
    try:
        result = _run(config, options, errors, forced=progress)
    except Nobody as error:
        complain(str(error), context.command_path)
        context.exit(Exit.NO_ANSWER)
    _show(result, json_file, charts, errors)
    if result.measured.interrupted:
        context.exit(Exit.INTERRUPTED)
    context.exit(Exit.DONE if result.fine else Exit.FAILED)


def _bench_groups(
    context: click.Context, groups: Groups, given: dict[str, Any], json_file: str | None
) -> int:
    """Load several groups and print a table of what they did; the exit code."""
    for name in given:
        if name not in OF_GROUPS and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} needs a file of one cluster, not of groups")
    stop = Amount(given["operations"], given["duration"])
    warmup: Amount = given["warmup"]
    if warmup.operations:
        raise click.UsageError("--warmup of groups is a duration, like 2s")
    try:
        options = GroupsOptions(
            stop if stop != Amount() else Amount(seconds=DEFAULT_DURATION),
            warmup.seconds or 0.0,
            given["clients"] or CALLERS,
            given["keys"],
            given["value_size"],
            given["writes"],
            given["within"],
            given["across"],
            given["seed"],
            given["timeout"] or max(group.config.client.timeout for group in groups.groups),
        )
    except OptionError as error:
        raise click.UsageError(str(error)) from error
    load = Load(groups, options)
    with _stopped_by_interrupt(load.stop):
        measured = asyncio.run(load.run())
    report = groups_json(groups, options, measured)
    console = Console(stderr=json_file == STDOUT, highlight=False)
    console.print(groups_table(report))
    if json_file is not None:
        write_json(report, json_file)
    if load.interrupted:
        return Exit.INTERRUPTED
    return Exit.FAILED if measured.errors else Exit.DONE


def make_options(  # noqa: PLR0913  the options of the command line, by name
    config: Config,
    *,
    operations: int | None,
    duration: float | None,
    window: int | None,
    closed: bool,
    rate: float | None,
    clients: int | None,
    replicas: str | None,
    batch: int | None,
    timeout: float | None,
    tries: int | None,
    across: float,
    within: float,
    **others: Any,
) -> BenchOptions:
    """Resolve what was given on the command line and what the configuration says.

    Raises:
        OptionError: options that do not go together, or a value out of its range.
        ConfigError: no such replica.
    """
    if across or within:
        raise OptionError("--across and --within need a file of groups")
    if operations is not None and duration is not None:
        raise OptionError("--operations and --duration exclude each other: choose one end")
    for name, value in (("--window", window), ("--rate", rate), ("--batch", batch)):
        if closed and value is not None:
            raise OptionError(f"--closed and {name} exclude each other: closed is one command at a time")
    for name, limit in (("key", config.max_key), ("value", config.max_value)):
        if others[f"{name}_size"] > limit:
            raise OptionError(f"--{name}-size {others[f'{name}_size']}: max_{name} is {limit} bytes here")
    names = _replica_names(config, replicas)
    if operations is None and duration is None:
        duration = DEFAULT_DURATION
    return BenchOptions(
        replicas=names,
        observers=tuple(one.name for one in config.observers if others["reads"] == "observer"),
        clients=len(names) if clients is None else clients,
        stop=Amount(operations, duration),
        closed=closed,
        window=1 if closed else DEFAULT_WINDOW if window is None else window,
        batch=1 if closed else DEFAULT_BATCH if batch is None else batch,
        rate=rate,
        timeout=config.client.timeout if timeout is None else timeout,
        tries=config.client.tries if tries is None else tries,
        **others,
    )


def _replica_names(config: Config, given: str | None) -> tuple[str, ...]:
    if given is None:
        return tuple(replica.name for replica in config.replicas)
    names = [name.strip() for name in given.split(",") if name.strip()]
    return tuple(find_replica(config, name).name for name in names)


def _run(config: Config, options: BenchOptions, errors: Console, *, forced: bool | None) -> Result:
    shown = errors.is_terminal if forced is None else forced
    with ProgressBar(errors) if shown else nullcontext() as bar:
        return run_bench(config, options, bar.update if bar is not None else None, _stopped_by_interrupt)


@contextmanager
def _stopped_by_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """While the load runs, the first Ctrl-C ends it in good order and a second one at once."""
    previous = signal.getsignal(signal.SIGINT)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        stop()

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


class Charts(NamedTuple):
    """The charts that are asked for: a file of HTML, and in the terminal."""

    html_file: str | None
    plot: bool

    @property
    def wanted(self) -> bool:
        """Whether there are any."""
        return self.plot or self.html_file is not None

    def check(self) -> None:
        """Say before the run what is missing for them."""
        for wanted, option, need in (
            (self.html_file, "--html", "matplotlib"),
            (self.plot, "--plot", "plotext"),
        ):
            if wanted:
                check_installed(f"bench {option}", "plots", (need,))


def _show(result: Result, json_file: str | None, charts: Charts, errors: Console) -> None:
    """The table goes to stdout, unless a report does."""
    report = as_json(result)
    console = errors if STDOUT in (json_file, charts.html_file) else Console(highlight=False)
    console.print(title(report), markup=False, soft_wrap=True)
    console.print(as_table(report))
    for line in remarks(report):
        console.print(line, markup=False, soft_wrap=True)
    if charts.plot and report["series"] is not None:
        from epaxos.bench.terminal import plots  # noqa: PLC0415 - of an extra

        curve = result.measured.total().latencies.curve()
        text = plots(lines_of(report["series"]), curve, console.width, colour=console.is_terminal)
        console.file.write(f"\n{text}\n")
    if json_file is not None:
        write_json(report, json_file)
    if charts.html_file is not None:
        from epaxos.bench.page import bench_page  # noqa: PLC0415 - the same

        words = ["epaxos", *sys.argv[1:]]
        write_text(bench_page(result, report, describe_machine(), words), charts.html_file)
