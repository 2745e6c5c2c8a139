"""What the simulator has to know of each protocol: how its core is set up, and who checks its replicas one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Final, NamedTuple, TypeVar

from epaxos.protocol.epaxos import state as epaxos
from epaxos.protocol.ids import Row
from epaxos.protocol.kinds import EPAXOS, MULTIPAXOS
from epaxos.protocol.multipaxos import state as multipaxos
from epaxos.simulation.checkers.acceptor import Acceptors
from epaxos.simulation.checkers.contents import Contents
from epaxos.simulation.checkers.elections import Elections
from epaxos.simulation.checkers.leader import LeaderAcceptors
from epaxos.simulation.plan.fates import STEADY
from epaxos.simulation.plan.options import Options
from epaxos.simulation.world.observer import Observer

SettingsT = TypeVar("SettingsT", epaxos.Settings, multipaxos.Settings)


class Profile(NamedTuple):
    """One protocol.

    settings   those of the core in a row
    checkers   those of the protocol's own rules; all others are of every protocol
    """

    settings: Callable[[Options, Row], Any]
    checkers: Callable[[Options, Contents], Sequence[Observer]]


def _scaled(settings: SettingsT, patience: float, **others: float) -> SettingsT:
    """Settings with all times scaled to the run's network, but for some."""
    times: dict[str, Any] = {
        field.name: value * patience
        for field in fields(settings)
        if type(value := getattr(settings, field.name)) is float
    }
    return replace(settings, **(times | others))


def _epaxos(options: Options, row: Row) -> epaxos.Settings:
    settings = epaxos.Settings(row, options.quorums, thrifty=options.thrifty, ahead=options.ahead)
    settings = replace(settings, retain=options.retain, tells=options.lasting)
    return _scaled(settings, options.patience, fast_path_timeout=options.fast_path)


def _multipaxos(options: Options, row: Row) -> multipaxos.Settings:
    learn = multipaxos.Learn(options.learn)
    settings = multipaxos.Settings(row, options.quorums, learn, retain=options.retain, tells=options.lasting)
    return _scaled(settings, options.patience, beacon=options.beacon)


def _led_checkers(options: Options, _: Contents) -> Sequence[Observer]:
    return (
        LeaderAcceptors(options.quorums),
        Elections(options.replicas, steady=options.leaders == STEADY),
    )


def checkers_of(options: Options, contents: Contents) -> list[Observer]:
    """Those of each protocol that may run, which look at the epochs of that alone."""
    return [checker for name in options.protocols for checker in PROFILES[name].checkers(options, contents)]


PROFILES: Final = {
    EPAXOS.name: Profile(
        _epaxos, lambda options, contents: (Acceptors(options.replicas, options.ahead, contents),)
    ),
    MULTIPAXOS.name: Profile(_multipaxos, _led_checkers),
}
