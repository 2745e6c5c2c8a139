"""All that is drawn before a run: the options, what clients ask for, and what goes wrong."""

from __future__ import annotations

from typing import NamedTuple

from epaxos.simulation.plan.drawing import draw_options
from epaxos.simulation.plan.faults import Fault, draw_faults
from epaxos.simulation.plan.options import NO_OVERRIDES, Options, Overrides
from epaxos.simulation.plan.workload import Script, draw_workload


class Plan(NamedTuple):
    """Everything that makes a run: a run of the same plan goes the same way."""

    options: Options
    scripts: tuple[Script, ...]
    faults: tuple[Fault, ...]


def draw_plan(seed: int, overrides: Overrides = NO_OVERRIDES) -> Plan:
    """The plan of a seed.

    Raises:
        ValueError: an override out of its range.
    """
    options = draw_options(seed, overrides)
    return Plan(options, draw_workload(options), draw_faults(options))
