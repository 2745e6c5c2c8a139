"""What an acknowledgement is worth when the process is killed, and who may use a directory meanwhile."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import engine_children
from engine_children import ENTRIES, round_of, state_at
from engines import log_of, open_durable, state_of
from epaxos.errors import DirectoryLocked

pytestmark = pytest.mark.slow

KILLS = 10


@contextmanager
def child(what: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    program = Path(engine_children.__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(program), what, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(what: str, directory: Path, seconds: float) -> int:
    """Let a child write for `seconds` after its first acknowledgement, kill it; returns its last one."""
    with child(what, directory) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(seconds)
        process.kill()
        lines += process.stdout.readlines()
    whole = [line for line in lines if line.endswith("\n")]
    assert whole
    return int(whole[-1].split()[1])


def test_acknowledged_rounds_survive_and_no_round_is_half(tmp_path: Path) -> None:
    chance = random.Random(8)
    for _ in range(KILLS):
        last = acknowledged("rounds", tmp_path, chance.random() * 0.1)
        engine = open_durable(tmp_path, create=False)
        found = log_of(engine)
        engine.close()
        written = int(found.pop(b"last"))
        assert written >= last
        numbers = sorted({int(key[:8]) for key in found})
        assert numbers == list(range(numbers[0], written + 1))
        assert len(found) == len(numbers) * ENTRIES
        for number in numbers:
            for key, value in round_of(number)[:ENTRIES]:
                assert found[key] == value


def test_committed_states_survive_and_no_state_is_half(tmp_path: Path) -> None:
    chance = random.Random(8)
    for _ in range(KILLS // 2):
        last = acknowledged("states", tmp_path, chance.random() * 0.1)
        engine = open_durable(tmp_path, create=False)
        found = state_of(engine)
        engine.close()
        generation = int(found[b"00"][:4])
        assert generation in {last, last + 1}
        assert found == {key: value for key, value in state_at(generation) if value is not None}


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with child("hold", tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"holding {process.pid}\n"
        with pytest.raises(DirectoryLocked, match=f"in use by process {process.pid}; stop it"):
            open_durable(tmp_path)
    open_durable(tmp_path, create=False).close()


def test_a_full_disk_is_the_end_of_the_engine_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with child("fill", tmp_path) as process:
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    rounds = [int(line.split()[1]) for line in lines if line.startswith("round")]
    failed, refused = lines[len(rounds) :]
    assert failed.startswith(f"failed cannot write {tmp_path / 'log.db'}")
    assert "out of use: an earlier write failed" in refused
    engine = open_durable(tmp_path, create=False)
    found = log_of(engine)
    assert int(found[b"last"]) in {rounds[-1], rounds[-1] + 1}
    for number in rounds[-3:]:
        for key, value in round_of(number)[:ENTRIES]:
            assert found[key] == value
    engine.write_log([(b"again", b"fine")])
    engine.close()
