"""Re-introduces known bugs, one at a time, and shows that the simulator catches each.

Each mutant is hunted in a process of its own, which compiles changed source text and leaves the source tree alone.
First the unchanged program runs the same way and must be clean: a broken simulator could not pass for a caught bug.
A bug counts as caught if a checker finds what it breaks; a program that fails with an exception does not count.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from epaxos.errors import EpaxosError
from epaxos.protocol.quorums import make_quorums
from hunt.hunter import FleetHunter, Hunter
from hunt.task import Task
from mutants.catalogue import MUTANTS
from mutants.mutation import DEFAULT, Mutant
from mutants.report import Row, print_list, print_table, refresh
from shared.processes import Children, Interrupted, catch_signals, lifeline

SEEDS: Final = 6000
"""How many seeds a mutant gets by default."""

CONTROL_SEEDS: Final = 300
"""How many seeds of each draw the unchanged program must pass by default."""

_OF_BENIGN: Final = 10
"""What must survive gets this part of the seeds, as no find ends its hunt."""

console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
notes = Console(stderr=True, highlight=False, soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    """Hunt; 0 if each was caught or must survive and did, 1 if something was wrong, 128 + signal if interrupted."""
    arguments = parse(argv)
    chosen = [mutant for mutant in MUTANTS if not arguments.only or mutant.name in arguments.only]
    if arguments.list:
        print_list(console, chosen)
        return 0
    catch_signals()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="epaxos-mutants-") as folder,
            lifeline() as line,
            Children() as children,
        ):
            local = Hunter(arguments.jobs, children, Path(folder), line)
            return run(FleetHunter(arguments.scheduler) if arguments.scheduler else local, chosen, arguments)
    except EpaxosError as error:
        notes.print(f"tools/mutants: {error}", markup=False)
        return 2
    except Interrupted as interruption:
        notes.print(f"tools/mutants: {interruption}; everything is stopped")
        return interruption.status


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/mutants", description=__doc__, allow_abbrev=False)
    names = [mutant.name for mutant in MUTANTS]
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--only", metavar="NAME", action="append", help="this mutant; may be given again")
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=_positive,
        default=SEEDS,
        help="for each mutant at most; default: %(default)s",
    )
    parser.add_argument(
        "--control",
        metavar="N",
        type=_positive,
        default=CONTROL_SEEDS,
        help="of each draw for the unchanged program; default: %(default)s",
    )
    parser.add_argument(
        "--jobs", metavar="N", type=_positive, default=len(os.sched_getaffinity(0)), help="default: cores"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="hunt on the workers of this scheduler of Dask instead"
    )
    parser.add_argument(
        "--replicas",
        metavar="N",
        type=_positive,
        help="in all draws, with their usual quorums; default: as --list says",
    )
    parser.add_argument(
        "--consequences", action="store_true", help="without the checks that only assert a rule"
    )
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="also put the rows into the table in FILE"
    )
    arguments = parser.parse_args(argv)
    for name in arguments.only or ():
        if name not in names:
            parser.error(f"--only {name}: allowed are {', '.join(names)}")
    return arguments


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {text}; allowed: 1 or more")
    return number


def run(hunter: Hunter | FleetHunter, chosen: Sequence[Mutant], arguments: argparse.Namespace) -> int:
    """Run the control, hunt the chosen mutants, and print what came of it."""
    tasks = [task_of(mutant, arguments) for mutant in chosen]
    if not is_clean(hunter, control(tasks, arguments.control)):
        return 1
    rows: list[Row] = []
    for index, found in hunter.run(tasks):
        row = Row(chosen[index], tasks[index], found, arguments.replicas)
        rows.append(row)
        notes.print(f"{len(rows):3} of {len(tasks)}  {row.mutant.name}: {row.summary}", markup=False)
    rows.sort(key=lambda row: chosen.index(row.mutant))
    print_table(console, rows)
    if arguments.markdown is not None:
        subject = "consequences" if arguments.consequences else "mutants"
        refresh(arguments.markdown, rows, subject, MUTANTS)
    return int(not is_clean(hunter, same_seeds(rows))) | verdict(rows)


def task_of(mutant: Mutant, arguments: argparse.Namespace) -> Task:
    """How to hunt a mutant."""
    draw, schedule = mutant.draw, mutant.schedule
    if arguments.consequences and mutant.damage is not None:
        draw = mutant.damage
    if arguments.replicas is not None:
        sizes = make_quorums(arguments.replicas)
        others = tuple(option for option in draw.options if option[0] not in ("f", "e"))
        sized = (*others, ("f", sizes.f), ("e", sizes.e))
        name = f"{draw.name}; n={arguments.replicas}"
        draw = draw._replace(name=name, replicas=arguments.replicas, options=sized)
        schedule = ""
    seeds = -(-arguments.seeds // _OF_BENIGN) if mutant.benign else arguments.seeds
    return Task(mutant.name, draw, seeds, arguments.consequences, schedule)


def control(tasks: Iterable[Task], seeds: int) -> list[Task]:
    """The unchanged program, run the same ways as the mutants."""
    ways = {task.draw: Task("", task.draw, seeds) for task in tasks if not task.schedule}
    ways.setdefault(DEFAULT, Task("", DEFAULT, seeds))
    schedules = {task.schedule: task._replace(mutant="") for task in tasks if task.schedule}
    return [*ways.values(), *schedules.values()]


def same_seeds(rows: Iterable[Row]) -> list[Task]:
    """The unchanged program on the very seeds that caught mutants: whatever these show must be the mutant's."""
    caught = {(row.task.draw, row.found.seeds - 1) for row in rows if row.caught and not row.task.schedule}
    return [Task("", draw, seeds=1, first=seed) for draw, seed in sorted(caught, key=str)]


def is_clean(hunter: Hunter | FleetHunter, unchanged: Sequence[Task]) -> bool:
    """Run the unchanged program and say how it went."""
    clean = True
    for index, found in hunter.run(unchanged):
        task = unchanged[index]
        if found.verdict != "CLEAN":
            clean = False
            where = task.schedule or f"draw {task.draw.name}, seed {task.first + found.seeds - 1}"
            console.print(f"[bold red]THE UNCHANGED PROGRAM IS NOT CLEAN:[/] {where}: {found.text}")
    if clean:
        seeds = sum(task.seeds for task in unchanged if not task.schedule)
        schedules = sum(bool(task.schedule) for task in unchanged)
        notes.print(f"the unchanged program: {seeds:,} seeds and {schedules} schedules, all clean")
    return clean


def verdict(rows: Sequence[Row]) -> int:
    """Say loudly what was not as it must be; the exit status."""
    kinds: tuple[tuple[str, Callable[[Row], bool]], ...] = (
        ("SURVIVED", lambda row: row.survived),
        ("FOUND, and does no harm", lambda row: row.accused),
        ("CRASHED, which shows nothing", lambda row: row.crashed),
        ("NOT APPLIED", lambda row: row.moved),
    )
    status = 0
    for title, applies in kinds:
        for row in filter(applies, rows):
            status = 1
            console.print(f"[bold red]{title}:[/] {row.mutant.name}: {row.mutant.bug} ({row.detail})")
    if not status:
        caught = sum(row.caught for row in rows)
        harmless = f", {len(rows) - caught} are harmless so" if caught < len(rows) else ""
        console.print(f"{caught} of {len(rows)} mutants caught{harmless}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
