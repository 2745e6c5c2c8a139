"""What came of the hunts, for people: a table for the terminal, and the same for a document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from hunt.task import Found, Task
from mutants.mutation import Mutant

BEGIN: Final = "<!-- table of {} -->"
END: Final = "<!-- end of table -->"

_COLUMNS: Final = ("mutant", "bug", "protocol", "seeds", "draw", "found by", "n = 3")


class Row(NamedTuple):
    """A mutant and what came of its hunt; `replicas` is what the command line asked for, if anything."""

    mutant: Mutant
    task: Task
    found: Found
    replicas: int | None

    @property
    def caught(self) -> bool:
        """Whether a checker found it."""
        return self.found.verdict in ("SAFETY", "LIVENESS")

    @property
    def crashed(self) -> bool:
        """Whether it ended with an exception that is no finding of a checker."""
        return self.found.verdict == "CRASH"

    @property
    def moved(self) -> bool:
        """Whether its patches do not fit the source."""
        return self.found.verdict == "MOVED"

    @property
    def harmless(self) -> bool:
        """Whether it was hunted where it does no harm, and indeed was not found."""
        mutant = self.mutant
        return self.found.verdict == "CLEAN" and bool(
            mutant.benign or (self.replicas == 3 and mutant.harmless)
        )

    @property
    def accused(self) -> bool:
        """Whether it does no harm, and was found all the same."""
        return self.caught and bool(self.mutant.benign)

    @property
    def survived(self) -> bool:
        """Whether it should have been found, and was not."""
        return self.found.verdict == "CLEAN" and not self.harmless

    @property
    def detail(self) -> str:
        """What there is to say about a mutant that was not caught."""
        last = self.found.text.strip().rpartition("\n")[2]
        return last or f"{self.found.seeds:,} seeds of draw {self.task.draw.name}"

    @property
    def finding(self) -> str:
        """Verdict and checker, or that there is none."""
        if self.caught:
            return f"{self.found.verdict.lower()}: {self.found.checker}"
        return "harmless" if self.harmless else self.found.verdict.replace("CLEAN", "SURVIVED")

    @property
    def where(self) -> str:
        """The draw of the seeds, or the schedule, which may be a test."""
        schedule = self.task.schedule
        if not schedule:
            return self.task.draw.name
        return f"test {schedule.removeprefix('tests/')}" if "::" in schedule else f"schedule {schedule}"

    @property
    def seeds(self) -> str:
        """How many seeds it took."""
        return "-" if self.task.schedule else f"{self.found.seeds:,}"

    @property
    def summary(self) -> str:
        """One line."""
        return f"{self.finding}, {self.where}, seeds: {self.seeds}, {self.found.seconds:.1f} s"

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table says, in the order of its columns."""
        mutant = self.mutant
        return (
            mutant.name,
            mutant.bug,
            mutant.section,
            self.seeds,
            self.where,
            self.finding,
            "harmless" if mutant.harmless or mutant.benign else "",
        )


def print_list(console: Console, mutants: Sequence[Mutant]) -> None:
    """Say which mutants there are."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("mutant", "bug", "protocol", "draw"):
        table.add_column(name, no_wrap=name == "mutant")
    for mutant in mutants:
        table.add_row(mutant.name, mutant.bug, mutant.section, mutant.schedule or mutant.draw.name)
    console.print(table)


def print_table(console: Console, rows: Sequence[Row]) -> None:
    """Print what came of the hunts."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in (*_COLUMNS, "seconds"):
        table.add_column(
            name, no_wrap=name == "mutant", justify="right" if name in ("seeds", "seconds") else "left"
        )
    for row in rows:
        style = "" if (row.caught and not row.accused) or row.harmless else "bold red"
        table.add_row(*row.cells, f"{row.found.seconds:.1f}", style=style)
    console.print(table)


def reasons(mutants: Sequence[Mutant]) -> str:
    """Why some do no harm with three replicas, and some none at all."""
    sized = [f"- `{mutant.name}`: {mutant.harmless}." for mutant in mutants if mutant.harmless]
    always = [f"- `{mutant.name}`: {mutant.benign}." for mutant in mutants if mutant.benign]
    return "\n".join(
        ["Harmless with three replicas:", "", *sized, "", "Harmless, so that they must survive:", "", *always]
    )


def _line(cells: Sequence[str]) -> str:
    return f"|{'|'.join(cell.replace('|', chr(92) + '|') for cell in cells)}|"


def listed(text: str, subject: str) -> dict[str, str]:
    """The lines of a document's table of a subject, "mutants" or "consequences", by the mutants' names, in order.

    Raises:
        ValueError: it does not hold both marks of the table.
    """
    table = _parted(text, subject)[1]
    lines = [line for line in table.splitlines() if line.startswith("|`")]
    return {line.split("`")[1]: line for line in lines}


def _parted(text: str, subject: str) -> tuple[str, str, str]:
    """What stands before, between and after the two marks, these with what is outside."""
    mark = BEGIN.format(subject)
    before, begin, rest = text.partition(mark)
    table, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there must be {mark} and {END}")
    return before + mark, table, END + after


def refresh(file: Path, rows: Sequence[Row], subject: str, mutants: Sequence[Mutant]) -> None:
    """Put rows into the table of a subject; of other mutants what stands there stays, if there are such mutants.

    Raises:
        ValueError: the document does not hold both marks of the table.
    """
    text = file.read_text(encoding="utf-8")
    before, _, after = _parted(text, subject)
    lines = listed(text, subject)
    lines |= {row.mutant.name: _line((f"`{row.mutant.name}`", *row.cells[1:])) for row in rows}
    table = [_line(_COLUMNS), _line(["-"] * len(_COLUMNS))]
    table += [lines[mutant.name] for mutant in mutants if mutant.name in lines]
    parts = [before, "\n".join(table), *([reasons(mutants)] if subject == "mutants" else []), after]
    file.write_text("\n\n".join(parts), encoding="utf-8")
