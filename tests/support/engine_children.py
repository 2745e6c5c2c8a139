"""Processes that write to an engine and are killed: run as `python engine_children.py WHAT DIRECTORY`.

Each reports on its standard output what the engine has acknowledged, a line each.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from itertools import count
from pathlib import Path

from engines import log_of, open_durable, state_of
from epaxos.errors import StorageError, WriteFailed
from epaxos.storage.engine import Engine

ENTRIES = 5
KEPT = 40


def round_of(number: int) -> list[tuple[bytes, bytes]]:
    """What round `number` writes: entries of its own, and one that every round writes again."""
    value = b"%08d" % number
    own = [(b"%08d-%d" % (number, i), value * 100 * (i + 1)) for i in range(ENTRIES)]
    return [*own, (b"last", value)]


def state_at(generation: int) -> list[tuple[bytes, bytes | None]]:
    """A state of which every entry names its generation, of four digits; one key comes and goes."""
    value = b"%d" % generation
    entries: list[tuple[bytes, bytes | None]] = [(b"%02d" % i, value * 20) for i in range(50)]
    return [*entries, (b"odd", value if generation % 2 else None)]


def report(what: str, about: object) -> None:
    sys.stdout.write(f"{what} {about}\n")
    sys.stdout.flush()


def next_round(engine: Engine) -> int:
    return int(log_of(engine).get(b"last", b"-1")) + 1


def write_rounds(engine: Engine) -> None:
    for number in count(next_round(engine)):
        engine.write_log(round_of(number))
        report("round", number)
        if number % 25 == 0:
            engine.drop_log([(b"0", b"%08d-9" % (number - KEPT))], [])


def write_states(engine: Engine) -> None:
    for generation in count(int(state_of(engine).get(b"00", b"1000")[:4]) + 1):
        changes = state_at(generation)
        for start in range(0, len(changes), 10):
            engine.stage_state(changes[start : start + 10])
        engine.commit_state()
        report("state", generation)


def fill_up(engine: Engine) -> None:
    """Write until files may grow no more; then see that the engine is out of use even with room again."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        write_rounds(engine)
    except WriteFailed as error:
        report("failed", error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    try:
        engine.write_log(round_of(0))
    except StorageError as error:
        report("refused", error)
    engine.close()


def hold(_: Engine) -> None:
    report("holding", os.getpid())
    time.sleep(60)


if __name__ == "__main__":
    {"rounds": write_rounds, "states": write_states, "fill": fill_up, "hold": hold}[sys.argv[1]](
        open_durable(Path(sys.argv[2]))
    )
