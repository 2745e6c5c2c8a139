"""Kills acceptors of registers under load, and proves that no change is lost or made twice.

Three nodes, each a process with a directory of its own, are killed with SIGKILL one after another, now and then two at
once, and started again. Meanwhile clients increment a few registers, each increment with a number of its own (`once`),
and ask again, at another proposer, for what they do not know of. In the end every register must hold as many as were
answered, and the answers must be all the numbers up to that, each once. What the observer of a proposer tells must
ascend.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from epaxos.client.commands import Op
from epaxos.errors import Busy, EpaxosError, NoAnswer
from epaxos.protocol.registers.change import Pace
from epaxos.registers import MemoryStore, Node, Observer, Transport
from kills.node import ACCEPTORS, SERVERS, TRANSPORTS, run_node
from shared.processes import Interrupted, catch_signals, pause

PROPOSERS: Final = (10, 11)
CLIENTS: Final = 4
KEYS: Final = 3
BOTH: Final = 0.05
"""How often two are killed at once: then nothing goes on for a while."""

PACE: Final = Pace(retry=0.03, pause=0.005)
PATIENCE: Final = 60.0
"""Seconds without a change, while all nodes are there, after which something is wrong."""

_LONGEST_PLACE: Final = 64
"""Bytes of the path of the directory for temporary files: the path of the forkserver's socket in it may have 107."""

_processes = multiprocessing.get_context("forkserver")


class Nodes:
    """The processes of the acceptors."""

    def __init__(self, folder: Path, transport: str) -> None:
        taken = [socket.create_server(("127.0.0.1", 0)) for _ in ACCEPTORS]
        self.addresses = {id_: ("127.0.0.1", one.getsockname()[1]) for id_, one in enumerate(taken)}
        for one in taken:
            one.close()
        self._folder = folder
        self._transport = transport
        self._running: dict[int, Any] = {}

    def start(self, id_: int) -> None:
        """Start one, which need not be ready when this returns."""
        arguments = (id_, str(self._folder / str(id_)), self.addresses, self._transport)
        process = _processes.Process(target=run_node, args=arguments, daemon=True)
        process.start()
        self._running[id_] = process

    def kill(self, id_: int) -> bool:
        """Kill one; whether it was there until now."""
        process = self._running.pop(id_)
        alive = bool(process.is_alive())
        if alive:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        return alive

    def close(self) -> None:
        """End all."""
        for id_ in list(self._running):
            self.kill(id_)


class Load:
    """Clients, each a thread, which increment registers until `stop`; what they were answered."""

    def __init__(self, proposers: Sequence[Node]) -> None:
        self._proposers = proposers
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.answers: dict[bytes, list[int]] = {b"counter %d" % number: [] for number in range(KEYS)}
        self.counts: Counter[str] = Counter()
        self.trouble: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(client,)) for client in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    @property
    def made(self) -> int:
        """Changes that were answered."""
        return self.counts["made"]

    def stop(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: int) -> None:
        chosen = random.Random(client)  # noqa: S311 - a load, to be repeated
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                self._increment(chosen.choice(list(self.answers)), client, number)
            except EpaxosError as error:
                self.trouble.append(f"client {client}: {type(error).__name__}: {error}")
                return

    def _increment(self, key: bytes, client: int, number: int) -> None:
        """Ask for one increment, until it is known to be made."""
        tries = 0
        until = time.monotonic() + 2 * PATIENCE
        while time.monotonic() < until:
            proposer = self._proposers[(client + tries) % len(self._proposers)]
            try:
                result = proposer.propose(key, Op.increment(key), 0.5, once=(client, number)).result
            except (Busy, NoAnswer) as error:
                self._note(type(error).__name__)
                tries += 1
                continue
            with self._lock:
                self.answers[key].append(result)
                self.counts["made"] += 1
                self.counts["made after doubt"] += tries > 0
            return
        raise NoAnswer("nothing goes on")

    def _note(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


def harm(nodes: Nodes, load: Load, kills: int, until: float) -> int:
    """Kill and start again; how often it was done. Every round of it waits for a change that was made since the last.

    Raises:
        RuntimeError: nothing goes on, or a node ended by itself.
    """
    chosen = random.Random(0)  # noqa: S311 - the same
    done = shown = 0
    while done < kills and time.monotonic() < until:
        before, began = load.made, time.monotonic()
        while load.made == before:
            pause(0.005)
            if load.trouble or time.monotonic() > began + PATIENCE:
                raise RuntimeError(load.trouble[0] if load.trouble else f"no change within {PATIENCE:.0f} s")
        pause(chosen.random() * 0.02)
        victims = chosen.sample(ACCEPTORS, 2 if chosen.random() < BOTH else 1)
        for victim in victims:
            if not nodes.kill(victim):
                raise RuntimeError(f"node {victim} had ended by itself")
        pause(chosen.random() * 0.02)
        for victim in victims:
            nodes.start(victim)
        done += len(victims)
        if done >= shown + 100:
            shown = done - done % 100
            print(f"{done:,} killed, {load.made:,} changes made", file=sys.stderr, flush=True)
    return done


def check(load: Load, reader: Node) -> list[str]:
    """What is wrong with what the clients were answered."""
    wrong = list(load.trouble)
    for key, answers in load.answers.items():
        held = int(reader.propose(key, Op.get(key), PATIENCE).result or b"0")
        if sorted(answers) != list(range(1, held + 1)):
            counted = Counter(answers)
            twice = sorted(number for number, times in counted.items() if times > 1)
            lost = sorted(set(range(1, held + 1)) - set(counted))
            more = sorted(number for number in counted if number > held)
            wrong.append(
                f"{key.decode()} holds {held}: answered twice {twice[:9]}, never {lost[:9]}, not in it {more[:9]}"
            )
    return wrong


def watch(observer: Observer, wrong: list[str]) -> int:
    """Follow what is chosen until the observer is closed; how much of it there was."""
    last: dict[bytes, int] = {}
    seen = 0
    for chosen in observer:
        value = int(chosen.value or b"0")
        seen += 1
        if value < last.get(chosen.key, 0):
            wrong.append(f"observed: {chosen.key.decode()} was {last[chosen.key]}, and then {value}")
        last[chosen.key] = value
    return seen


@contextmanager
def running(transport: str) -> Iterator[tuple[Nodes, list[Node]]]:
    """Acceptors, and proposers in this process that keep nothing, and never come back."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="epaxos-kills-")))
        nodes = Nodes(folder, transport)
        stack.callback(nodes.close)
        for id_ in ACCEPTORS:
            nodes.start(id_)
        proposers = []
        for id_ in PROPOSERS:
            way: Transport = TRANSPORTS[transport](nodes.addresses)
            proposers.append(
                stack.enter_context(Node(id_, MemoryStore(), way, acceptors=ACCEPTORS, pace=PACE))
            )
        yield nodes, proposers


def main(argv: Sequence[str]) -> int:
    """0 if nothing was lost or made twice, 1 if something was, 128 + signal if it was interrupted."""
    parser = argparse.ArgumentParser(
        prog="tools/kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000, metavar="N", help="default: %(default)s")
    parser.add_argument("--transport", choices=sorted(SERVERS), default="zeromq", help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=1200.0, metavar="S", help="at most; default: %(default)s"
    )
    given = parser.parse_args(argv)
    if given.kills < 1 or given.seconds <= 0:
        parser.error("--kills and --seconds: must be more than 0")
    catch_signals()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for what the processes have in common
    if len(tempfile.gettempdir()) > _LONGEST_PLACE:
        tempfile.tempdir = "/tmp"  # noqa: S108 - what is made in it has a name of its own
    _processes.set_forkserver_preload(["kills.node"])
    began = time.monotonic()
    wrong: list[str] = []
    seen: list[int] = []
    done = 0
    try:
        with running(given.transport) as (nodes, proposers):
            observer = proposers[0].observe(interval=0.02)
            watcher = threading.Thread(target=lambda: seen.append(watch(observer, wrong)))
            watcher.start()
            load = Load(proposers)
            try:
                done = harm(nodes, load, given.kills, began + given.seconds)
            except RuntimeError as error:
                wrong.append(str(error))
            finally:
                load.stop()
                observer.close()
                watcher.join()
            wrong += check(load, proposers[1])
    except Interrupted as interruption:
        print(f"tools/kills: {interruption}; everything is stopped", file=sys.stderr)
        return interruption.status
    counts = load.counts
    print(
        f"{done:,} SIGKILLs in {time.monotonic() - began:.0f} s over {given.transport}: {counts['made']:,} changes "
        f"made, {counts['made after doubt']:,} of them after doubt or failure ({counts['NoAnswer']:,} and "
        f"{counts['Busy']:,} times); {sum(seen):,} observed"
    )
    for line in wrong:
        print(f"WRONG: {line}")
    if not wrong:
        print("none lost, none made twice")
    return 1 if wrong or done < given.kills else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
