"""A known bug as a change of source text, and its application to a process without touching the source tree.

A mutant says which text of which modules it replaces by what. `install` makes the imports of this process compile
the changed text; it must come before the first import of those modules. Text that is not found exactly once fails
loudly: the source has moved, and the mutant would show nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, NamedTuple


class MovedError(Exception):
    """A patch does not fit the source any more, or comes too late; one line."""


class Patch(NamedTuple):
    """Replace the text `old`, which stands exactly once in `module`, by `new`."""

    module: str
    old: str
    new: str


class Draw(NamedTuple):
    """How seeds are drawn where not as always: what is decided instead of the seed, to meet something more often.

    replicas    how many there are
    operations  how many commands clients ask for in all; few make a run small and quick
    faults      names of the kinds that may happen, parted by commas
    system      what is run: clusters of EPaxos, of "multipaxos", or "registers"; then `replicas` are acceptors, and
                `options` arguments of `epaxos.simulation.registers.plan.draw_plan`; "transactions", or several
                clusters as "groups", whose protocols and sizes the seed draws
    muted       kinds of messages that many links lose for as long as the faults last
    slow        kinds of messages that take `hunt.run.SLOW` times as long as others
    times       fields of `epaxos.simulation.plan.options.Options` in mean delays of a message: with little `patience`
                recoveries compete, and a long `phase` gives them time for it
    options     other fields of it with their values
    """

    name: str
    replicas: int | None = None
    operations: int | None = None
    faults: str | None = None
    system: str = ""
    muted: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    times: tuple[tuple[str, float], ...] = ()
    options: tuple[tuple[str, object], ...] = ()


DEFAULT: Final = Draw("default")
SMALL: Final = Draw("small", operations=8)
REGISTERS: Final = Draw("registers", system="registers")
TRANSACTIONS: Final = Draw("transactions", system="transactions")
GROUPS: Final = Draw("groups", system="groups")
LED_SMALL: Final = Draw("Multi-Paxos, small", operations=8, system="multipaxos")
FIVE: Final = Draw("small, n=5", replicas=5, operations=8)


class Mutant:
    """A bug that somebody made, or could make.

    name      by which the command line knows it
    bug       what is wrong, in a few words
    section   of the protocol's document, or what else holds the rule
    patches   how to make it
    draw      of the seeds that hunt it
    harmless  why it does no harm with three replicas; empty if it does
    benign    why it does none at all, so that it must survive: else a checker forbids what the rules allow
    schedule  what shows it where seeds are too slow: a transcript of tests/scenario, or a directed test as
              "path::function"; empty if seeds do
    damage    the draw for hunting it by its consequences alone, where that is another one
    """

    def __init__(
        self,
        name: str,
        bug: str,
        section: str,
        *patches: Patch,
        draw: Draw = DEFAULT,
        harmless: str = "",
        benign: str = "",
        schedule: str = "",
        damage: Draw | None = None,
    ) -> None:
        self.name, self.bug, self.section, self.patches = name, bug, section, patches
        self.draw, self.schedule, self.damage = draw, schedule, damage
        self.harmless, self.benign = harmless, benign


def altered(source: str, patches: Iterable[Patch]) -> str:
    """The source text with the patches applied.

    Raises:
        MovedError: the old text of a patch does not stand in it exactly once.
    """
    for patch in patches:
        count = source.count(patch.old)
        if count != 1:
            first = patch.old.strip().partition("\n")[0]
            raise MovedError(f"the source moved: {patch.module} holds {first!r} {count} times, not once")
        source = source.replace(patch.old, patch.new)
    return source


def by_module(patches: Iterable[Patch]) -> dict[str, list[Patch]]:
    """The patches of each module, in order."""
    modules: dict[str, list[Patch]] = {}
    for patch in patches:
        modules.setdefault(patch.module, []).append(patch)
    return modules


def compile_altered(file: str, patches: Sequence[Patch]) -> CodeType:
    """The code of a source file with the patches applied.

    Raises:
        MovedError: a patch does not fit.
    """
    source = altered(Path(file).read_text(encoding="utf-8"), patches)
    return compile(source, file, "exec", dont_inherit=True)


class _Loader(SourceFileLoader):
    """Loads a module from changed source, past all cached bytecode."""

    def __init__(self, fullname: str, path: str, patches: Sequence[Patch]) -> None:
        super().__init__(fullname, path)
        self._patches = patches

    def get_code(self, fullname: str) -> CodeType:
        return compile_altered(self.get_filename(fullname), self._patches)


class _Finder(MetaPathFinder):
    """Finds the modules that have patches, as Python would, and gives them the other loader."""

    def __init__(self, modules: Mapping[str, Sequence[Patch]]) -> None:
        self._modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        patches = self._modules.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if patches else None
        if spec is not None and patches:
            assert spec.origin is not None
            spec.loader = _Loader(fullname, spec.origin, patches)
        return spec


def install(patches: Iterable[Patch]) -> None:
    """Let all later imports of this process see the patches.

    Raises:
        MovedError: a module was imported already.
    """
    modules = by_module(patches)
    late = sorted(modules.keys() & sys.modules.keys())
    if late:
        raise MovedError(f"imported before it could be changed: {', '.join(late)}")
    sys.meta_path.insert(0, _Finder(modules))
