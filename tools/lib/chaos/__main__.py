"""Kills, pauses and cuts off the replicas of a loaded cluster, and proves that its clients get right answers in time.

Starts real replicas on this machine whose links lead through proxies, loads them, and does to them what a seed says;
killed ones may come back. The clients record what they asked and were answered. In the end that history must be
linearizable, every command have executed once, no client of a healthy replica have waited longer than three
time-outs or have seen an error, and the replicas that are left must have executed everything, of dead ones too, and
hold the same state. Values must have ended in their time, and locks had one holder at a time. Watchers beside them, if
there are any, must have been told of every change in order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.status import Status

from chaos.check import Checker
from chaos.cluster import NAMES, SPARE, Cluster, Plan
from chaos.counts import Counts, count_lines
from chaos.faults import DRAWS, MEMBERS, RESTARTS
from chaos.gaps import Gaps
from chaos.history import Epoch, write_history
from chaos.load import SURGE, Load, LoadOptions
from chaos.report import Goal, Report
from chaos.restarts import Lengthy
from chaos.schedule import Event, draw_schedule, plan_rounds
from chaos.settle import settle
from chaos.timeline import Timeline
from chaos.watchers import Watchers
from epaxos.config.durations import parse_duration
from epaxos.errors import EpaxosError
from epaxos.simulation.checkers.search import Finding
from shared.processes import Children, Interrupted, catch_signals, lifeline, pause
from shared.replicas import EPAXOS

TICK: Final = 0.05
"""Seconds between two looks at signals, processes and the schedule."""

console = Console(width=None if sys.stdout.isatty() else 160)
notes = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Options:
    """A run; `interval` and `timeout` in seconds, `slots` is its length in intervals; it ends before at its `goal`."""

    replicas: int
    timeout: float
    engine: str
    faults: tuple[str, ...]
    at_once: int
    slots: int
    interval: float
    load: LoadOptions
    seed: int
    goal: Goal
    watchers: int

    @property
    def plan(self) -> Plan:
        """What the clusters are made of."""
        faults = set(self.faults)
        return Plan(
            self.replicas,
            self.timeout,
            self.engine,
            restarts=bool(RESTARTS & faults),
            members=bool(MEMBERS & faults),
        )

    @property
    def survivable(self) -> int:
        """How many faulty replicas the cluster survives."""
        return (self.replicas - 1) // 2


class Run:
    """A run in `directory`: rounds of one cluster each. Its findings are in `report`."""

    def __init__(self, options: Options, directory: Path, status: Status) -> None:
        judged = options.at_once <= options.survivable
        self.report = Report(options.seed, options.timeout, judged=judged, goal=options.goal)
        self.report.watchers = options.watchers
        self._timeline = self.report.timeline = Timeline(options.plan.seats, options.slots * options.interval)
        self._options = options
        self._directory = directory
        self._status = status

    async def rounds(self) -> None:
        """Run all rounds.

        Raises:
            ChaosError: a replica ended by itself, or did not start or stop as it must.
            Interrupted: a signal came.
        """
        options = self._options
        plan = plan_rounds(options.slots, options.faults, options.at_once)
        for number, slots in enumerate(plan, 1):
            chance = random.Random(f"{options.seed} {number}")  # noqa: S311 - a test that must be repeatable
            events = draw_schedule(
                chance, NAMES[: options.replicas], options.faults, options.at_once, slots, options.interval
            )
            notes.print(f"round {number} of {len(plan)}")
            directory = self._directory / f"round-{number}"
            await self._round(directory, events, slots * options.interval, chance)
            self.report.rounds = number
            if self.report.has_reached_goal:
                break

    async def _round(
        self, directory: Path, events: Sequence[Event], seconds: float, chance: random.Random
    ) -> None:
        """One cluster, from its start to its end."""
        options = self._options
        async with AsyncExitStack() as stack:
            line = stack.enter_context(lifeline())
            children = stack.enter_context(Children())
            cluster = Cluster(directory, options.plan, children, line)
            await stack.enter_async_context(cluster)
            checker = stack.enter_context(Checker(cluster.config.max_value))
            await cluster.start(EPAXOS, _tick)
            watchers = stack.enter_context(
                Watchers(options.watchers, cluster.file, f"{options.seed} {directory.name}")
            )
            await watchers.begin(_tick)
            gaps = Gaps(_now())
            load = Load(
                cluster,
                options.load,
                chance,
                checker,
                gaps,
                self._timeline,
                lambda epoch, finding: self._keep(directory, epoch, finding),
                lambda epoch: watchers.record(epoch.number, epoch.calls),
            )
            await stack.enter_async_context(load)
            await load.start()
            cluster.returned = lambda victims: self._on_return(cluster, load, victims)
            counts = Counts()
            watch = asyncio.create_task(counts.watch(cluster))
            began = _now()
            self._timeline.begin(began)
            try:
                await self._perform(cluster, load, events, began, seconds)
                ended = _now()
                self.report.seconds += ended - began
                self._timeline.end(ended)
                await self._finish(cluster, load, watchers)
            finally:
                watch.cancel()
                for event in events:
                    if isinstance(event.fault, Lengthy):
                        event.fault.cancel()
                self._take_over(load)
                self._count(cluster, counts)

    async def _perform(
        self, cluster: Cluster, load: Load, events: Sequence[Event], began: float, seconds: float
    ) -> None:
        """Do what the schedule says, when it says so."""
        to_begin = sorted(events, key=lambda event: event.at)
        to_end: list[Event] = []
        while (now := _now() - began) < seconds and not self._is_enough(cluster):
            await self._end_due(cluster, load, to_end, now)
            if to_begin and to_begin[0].at <= now and self._is_room(cluster, to_end, to_begin[0]):
                event = to_begin.pop(0).postponed(now)
                if not event.fault.lasting:
                    to_end.append(event)
                await self._begin(cluster, load, event, now)
            self._status.update(f"{now:.0f} of {seconds:.0f} s: {load.tally.answered:,} commands answered")
            await self._look(cluster, load)
        while to_end:
            await self._end_due(cluster, load, to_end, _now() - began)
            await self._look(cluster, load)

    def _is_enough(self, cluster: Cluster) -> bool:
        kills, all_down = self.report.killed
        return self.report.goal.is_reached(kills + cluster.kills.total(), all_down + cluster.all_down)

    def _is_room(self, cluster: Cluster, under_way: Sequence[Event], event: Event) -> bool:
        """Whether a fault may begin: those before it may have taken longer than was foreseen."""
        faulty = {victim for other in under_way for victim in other.fault.victims}
        faulty.update(seat for seat, replica in cluster.replicas.items() if not replica.runs)
        victims = event.fault.victims
        allowed = max(self._options.at_once, len(victims))
        return not faulty & set(victims) and len(faulty) + len(victims) <= allowed

    async def _end_due(self, cluster: Cluster, load: Load, under_way: list[Event], now: float) -> None:
        """End the faults whose time has come, but for replicas that are not back yet."""
        for event in [event for event in under_way if event.until is not None and event.until <= now]:
            if isinstance(event.fault, Lengthy) and not event.fault.is_over():
                continue
            under_way.remove(event)
            await self._end(cluster, load, event, now)

    @staticmethod
    def _on_return(cluster: Cluster, load: Load, victims: Sequence[str]) -> None:
        if len(victims) == len(cluster.names):
            load.gaps.revive(_now())

    async def _begin(self, cluster: Cluster, load: Load, event: Event, now: float) -> None:
        text = f"{event.fault}"
        until = "" if event.until is None else f", until {event.until:.1f} s"
        notes.print(f"{now:6.1f} s  {text}{until}")
        load.gaps.strike(event.fault.label, text, cluster.befallen(event.fault.victims), _now())
        self._timeline.strike(event.fault, _now())
        self.report.faults[event.fault.label] += 1
        load.surge(event.fault.victims)
        await asyncio.sleep(SURGE / 2)  # so that it comes in the middle of much that is under way
        await event.fault.begin(cluster)

    async def _end(self, cluster: Cluster, load: Load, event: Event, now: float) -> None:
        notes.print(f"{now:6.1f} s  over: {event.fault}")
        await event.fault.end(cluster)
        load.gaps.heal(cluster.befallen(event.fault.victims), _now())
        self._timeline.heal(event.fault, _now())

    async def _look(self, cluster: Cluster, load: Load) -> None:
        await _tick()
        cluster.check()
        load.check()

    async def _finish(self, cluster: Cluster, load: Load, watchers: Watchers) -> None:
        """Let everything come to its end, and look at the states of those that are left."""
        finishing = asyncio.ensure_future(load.finish())
        try:
            self._status.update("waiting for the last answers, and searching the histories")
            while not finishing.done():
                await self._look(cluster, load)
            finishing.result()
        finally:
            finishing.cancel()
        if len(cluster.alive) > len(cluster.replicas) // 2:  # fewer can decide nothing
            self.report.audits.append(await load.audit(cluster.alive[0]))
            await load.end(cluster.alive[0])
            settled = await settle(cluster.config, cluster.alive, lambda: self._look(cluster, load))
            self.report.compared += 1
            self.report.settled = max(self.report.settled, settled.seconds)
            self.report.recovered += settled.recovered
            if settled.wrong:
                self.report.apart.append(settled.wrong)
            elif self.report.watchers:
                self._status.update("waiting for the watchers")
                values = await load.read(cluster.alive[0])
                counts, wrong = await watchers.finish(values, lambda: self._look(cluster, load))
                self.report.watched += counts
                self.report.missed += wrong
                self.report.witnessed += 1
        await cluster.stop(_tick)

    def _count(self, cluster: Cluster, counts: Counts) -> None:
        """Add what was done to one round's replicas, and what they did."""
        report = self.report
        report.kills.update(cluster.kills)
        report.all_down += cluster.all_down
        report.restarts += cluster.restarts
        report.changes.update(cluster.changes)
        report.made.update(cluster.made)
        report.done.update(counts.totals)
        for replica in cluster.all:
            if replica.log.exists():
                report.done.update(count_lines(replica.log))

    def _take_over(self, load: Load) -> None:
        """Add what one round's load came to."""
        report, tally = self.report, load.tally
        report.recorded += tally.recorded
        report.others += tally.others
        report.epochs += tally.epochs
        report.errors.update(tally.errors)
        report.excused.update(tally.excused)
        report.retries.update(tally.retries)
        report.findings += tally.findings
        report.ends.update(load.endings.counts)
        report.untimely += load.endings.wrong
        report.locks.update(load.holders.counts)
        report.shared += load.holders.wrong
        report.longest_return = max(report.longest_return, load.gaps.longest_return)
        report.stall = max(report.stall, tally.longest_stall)
        for label, gap in load.gaps.longest.items():
            known = report.gaps.get(label)
            if known is None or gap.seconds > known.seconds:
                report.gaps[label] = gap

    @staticmethod
    def _keep(directory: Path, epoch: Epoch, finding: Finding) -> None:
        file = directory / f"history-{epoch.number}.txt"
        write_history(file, epoch.calls)
        notes.print(f"epoch {epoch.number} is {finding.verdict.value}: {file}", markup=False, soft_wrap=True)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _tick() -> None:
    """Wait a moment.

    Raises:
        Interrupted: a signal came.
    """
    pause()
    await asyncio.sleep(TICK)


def main(argv: Sequence[str]) -> int:
    """Run it; 0 if all claims hold, 1 if one does not, 128 + signal if it was interrupted."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    options = _options(parser, arguments)
    catch_signals()
    notes.print(f"tools/chaos {' '.join(_repeat(argv, options.seed))}", soft_wrap=True)
    directory = Path(tempfile.mkdtemp(prefix="epaxos-chaos-"))
    keep = True
    try:
        with notes.status("starting") as status:
            run = Run(options, directory, status)
            asyncio.run(run.rounds())
        if arguments.json:
            print(json.dumps(run.report.as_dict()))
        else:
            run.report.show(console)
        if arguments.html is not None:
            from chaos.page import chaos_page  # noqa: PLC0415 - matplotlib takes a second

            words = ["tools/chaos", *_repeat(argv, options.seed)]
            arguments.html.write_text(chaos_page(run.report, words), encoding="utf-8")
        keep = not run.report.fine
    except Interrupted as interruption:
        keep = False
        notes.print(f"tools/chaos: {interruption}; everything is stopped")
        return interruption.status
    except EpaxosError as error:
        notes.print(f"tools/chaos: {error}", markup=False, soft_wrap=True)
    finally:
        if keep or arguments.keep:
            notes.print(f"logs, configurations and histories are in {directory}", soft_wrap=True)
        else:
            shutil.rmtree(directory)
    return int(keep)


def _repeat(argv: Sequence[str], seed: int) -> list[str]:
    """The arguments that draw the same again."""
    return [*argv] if any(word.startswith("--seed") for word in argv) else [*argv, "--seed", str(seed)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/chaos",
        description=__doc__,
        epilog="Variables such as EPAXOS_THRIFTY=true change the replicas' configuration. See docs/chaos.md.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--replicas", metavar="N", type=int, default=3, help="from 3 to 7; default: %(default)s")
    add("--duration", metavar="TIME", type=parse_duration, default="60s", help="of the load; default: 60s")
    add("--interval", metavar="TIME", type=parse_duration, default="5s", help="between faults; default: 5s")
    add("--timeout", metavar="TIME", type=parse_duration, default="1s", help="of the replicas; default: 1s")
    add(
        "--faults",
        metavar="KIND,...",
        default="kill,pause,cut",
        help=f"of {', '.join(DRAWS)}; default: %(default)s",
    )
    add(
        "--engine",
        choices=("sqlite", "memory"),
        default="sqlite",
        help="where replicas keep their promises; restarts need sqlite; default: %(default)s",
    )
    add("--kills", metavar="N", type=int, default=0, help="end after so many SIGKILLs, before --duration")
    add(
        "--all-down",
        metavar="N",
        type=int,
        default=0,
        help="end when all replicas were killed together so often",
    )
    add("--at-once", metavar="N", type=int, help="replicas faulty at a time; default: as many as it survives")
    add("--clients", metavar="N", type=int, default=3, help="recorded, at each replica; default: %(default)s")
    add(
        "--rate",
        metavar="R",
        type=float,
        default=10.0,
        help="commands a second of each; default: %(default)g",
    )
    add(
        "--bulk",
        metavar="R",
        type=float,
        default=600.0,
        help="other commands a second, in all; default: %(default)g",
    )
    add(
        "--watchers",
        metavar="N",
        type=int,
        default=0,
        help="that must be told of every change; default: %(default)s",
    )
    add(
        "--seed", metavar="N", type=int, help="the same seed draws the same faults and commands; default: any"
    )
    add("--json", action="store_true", help="print the report as one JSON object")
    add("--html", metavar="FILE", type=Path, help="write the report as one page with charts")
    add("--keep", action="store_true", help="keep logs and configurations also when all is well")
    return parser


def _options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Options:
    """What the arguments mean; ends the program where they do not go together."""

    def need(option: str, fine: bool, allowed: str) -> None:  # noqa: FBT001 - a condition
        if not fine:
            parser.error(
                f"--{option}: found {getattr(arguments, option.replace('-', '_'))}; allowed: {allowed}"
            )

    replicas, timeout, interval = arguments.replicas, arguments.timeout, arguments.interval
    most = len(NAMES) - SPARE
    need("replicas", 3 <= replicas <= most, f"3 to {most}")
    need("timeout", 0.2 <= timeout <= 60, "from 200ms to 1m")
    need("interval", interval >= 2 * timeout, "twice the time-out or more")
    slots = int(arguments.duration / interval)
    need("duration", slots >= 3, "three intervals or more")
    faults = tuple(dict.fromkeys(arguments.faults.split(",")))
    need("faults", set(faults) <= set(DRAWS), f"one or more of {', '.join(DRAWS)}, with commas between")
    survivable = (replicas - 1) // 2
    at_once = survivable if arguments.at_once is None else arguments.at_once
    need("at-once", 1 <= at_once < replicas, f"1 to {replicas - 1}")
    need("engine", arguments.engine == "sqlite" or not RESTARTS & set(faults), "sqlite, for restarts")
    deadly = bool({"kill", *RESTARTS} & set(faults))
    need("kills", arguments.kills == 0 or (arguments.kills > 0 and deadly), "above 0, with kills or restarts")
    need(
        "all-down",
        arguments.all_down == 0 or (arguments.all_down > 0 and "restart-all" in faults),
        "above 0, with restart-all",
    )
    need("clients", 1 <= arguments.clients <= 100, "1 to 100")
    need("rate", 0 < arguments.rate <= 1000, "above 0, up to 1000")
    need("bulk", 0 <= arguments.bulk <= 100_000, "0 to 100000")
    need("watchers", 0 <= arguments.watchers <= 1000, "0 to 1000")
    seed = random.SystemRandom().getrandbits(32) if arguments.seed is None else arguments.seed
    load = LoadOptions(arguments.clients, arguments.rate, arguments.bulk)
    goal = Goal(arguments.kills, arguments.all_down)
    return Options(
        replicas,
        timeout,
        arguments.engine,
        faults,
        at_once,
        slots,
        interval,
        load,
        seed,
        goal,
        arguments.watchers,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
