"""What each step of a command's way through a replica costs, without the network, for clients that send one at a time.

    benchmarks/run steps               a thousand clients with one command each
    benchmarks/run steps --frame 33    with frames of 33 commands, as many commands in all

The figures are microseconds of CPU a command: the least of many tries, which other processes of the machine hardly
touch. All replicas decode and execute; the other steps only the one that takes the command.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Final

import zmq

from epaxos.actors.clients import Clients
from epaxos.config import load_config
from epaxos.metrics import ReplicaStats
from epaxos.statemachine.batch import Limits, decode_payload, encode_batch, make_payload
from epaxos.statemachine.machine import Run, StateMachine
from epaxos.statemachine.operations import Operation
from epaxos.transport.framing import Kind, seal

COMMANDS: Final = 1000
TRIES: Final = 40


class Steps:
    """One replica's client side and state machine; `best` has the least seconds of each step."""

    def __init__(self, frame: int) -> None:
        self._frame = frame
        self._config = load_config(None, environ={})
        names = [replica.name for replica in self._config.replicas]
        stats = ReplicaStats(names, 0, [operation.name for operation in Operation], [], 2)
        self._machine = StateMachine(Limits(), time.sleep)
        self._clients = Clients(
            self._config, self._machine.admit, stats, lambda *_: None, lambda _: 2**40, self._machine.ended
        )
        self.best: dict[str, float] = {}

    def _timed(self, step: str, act: Callable[[], object]) -> None:
        began = time.thread_time()
        act()
        self.best[step] = min(self.best.get(step, 1.0), time.thread_time() - began)

    def go(self, number: int) -> None:
        """All frames once, under request numbers that have not been used before."""
        first = 1 + number * self._frame
        parts = [zmq.Frame(self._request(client, first)) for client in range(COMMANDS // self._frame)]
        clients, machine = self._clients, self._machine
        self._timed(
            "take frames", lambda: [clients.open(b"connection", [part], float(number)) for part in parts]
        )
        batches = clients.take_batches()
        payload = make_payload(batches)
        self._timed("join and encode", lambda: make_payload(batches))
        self._timed("decode", lambda: decode_payload(payload.encoded))
        runs: list[Run] = []
        self._timed("execute", lambda: runs.extend(machine.runs(payload)))
        (run,) = runs
        self._timed("sort answers", lambda: clients.answers.answer(payload, run))
        self._timed("make replies", lambda: clients.answers.flush(float(number)))

    def _request(self, client: int, first: int) -> bytes:
        keys = [b"%08d" % (client * self._frame + index) for index in range(self._frame)]
        operations = bytes((Operation.WRITE,)) * self._frame
        batch = encode_batch(1 + client, first, first, operations, keys, [b"12345678"] * self._frame)
        return seal(Kind.REQUEST, self._config.fingerprint, batch)


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/run steps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frame", type=int, default=1, help="commands in one frame (%(default)s)")
    steps = Steps(parser.parse_args(argv).frame)
    for number in range(TRIES):
        steps.go(number)
    for step, seconds in steps.best.items():
        print(f"{step:16}{seconds / COMMANDS * 1e6:6.2f}")
    return 0
