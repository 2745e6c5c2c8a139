"""The processes of a run: nodes of registers, resources, and a manager for each transaction; these kill themselves."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple, NoReturn

from epaxos.client.blocking import Client
from epaxos.commit import (
    ClusterVotes,
    Manager,
    RegisterVotes,
    Transaction,
    Undecided,
    Vote,
    Votes,
    decode,
    encode,
)
from epaxos.config import load_config
from epaxos.errors import EpaxosError
from epaxos.registers import EngineStore, MemoryStore, Node
from epaxos.registers.http import HttpServer, HttpTransport

PATIENCE: Final = 0.5
"""Seconds that a manager or a resource waits for votes."""


class Place(NamedTuple):
    """Where a run is: its folder, the addresses of its resources, and of its nodes, or the file of its cluster."""

    folder: Path
    nodes: Mapping[int, tuple[str, int]]
    resources: Mapping[str, tuple[str, int]]
    cluster: str | None = None

    def of(self, resource: str, what: str) -> Path:
        """The folder where a resource keeps a file for each transaction that is so."""
        return self.folder / resource / what


def fork(body: Callable[[], None], log: Path) -> int:
    """Run something in a process of its own, which ends with this one; its number."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        logging.basicConfig(filename=log, level=logging.CRITICAL)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        body()
        status = 0
    except BaseException:
        logging.critical("a process of the run fails", exc_info=True)  # noqa: LOG015 - the process has one log
        raise
    finally:
        os._exit(status)


def _end_with(parent: int) -> NoReturn:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def kill_self() -> NoReturn:
    """End, as a power cut would end this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit(1)


class Mortal:
    """Kills the process when it has been asked so many times; never, if `steps` is 0."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self._lock = threading.Lock()

    def step(self) -> None:
        """A step begins, or has ended."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                kill_self()


class MortalManager(Manager):
    """A manager that may be killed before and after each of its effects."""

    def __init__(self, place: Place, proposer: int, mortal: Mortal) -> None:
        super().__init__(_votes(place, proposer), patience=PATIENCE)
        self._mortal = mortal

    def perform(self, *arguments: Any) -> Any:
        """See `Manager`."""
        self._mortal.step()
        result = super().perform(*arguments)
        self._mortal.step()
        return result


def _votes(place: Place, proposer: int) -> Votes:
    """Where votes are kept, as a process that has just begun reaches it."""
    if place.cluster is not None:
        return ClusterVotes(Client(config=load_config(place.cluster, environ={})))
    return RegisterVotes(Node(proposer, MemoryStore(), HttpTransport(place.nodes), acceptors=place.nodes))


def run_node(place: Place, id_: int) -> None:
    """A node of the registers."""
    store = EngineStore(place.folder / f"node-{id_}", id_)
    node = Node(id_, store, HttpTransport(place.nodes), acceptors=place.nodes)
    node.connect(*place.nodes)
    HttpServer(node, *place.nodes[id_])
    threading.Event().wait()


# -- resources -----------------------------------------------------------------------------------------------------


class Files:
    """A resource: what it has prepared and what it has committed, a file a transaction."""

    def __init__(self, place: Place, name: str, random: Random, refuses: float) -> None:
        self.name = name
        self._prepared, self._committed = place.of(name, "prepared"), place.of(name, "committed")
        self._random = random
        self._refuses = refuses

    def prepare(self, transaction: Transaction) -> Vote:
        """See `Resource`."""
        if self._random.random() < self._refuses:
            return Vote.ABORTED
        draft = self._prepared.parent / f"{transaction.id}.draft"
        draft.write_bytes(encode(transaction))
        draft.rename(self._prepared / transaction.id)
        return Vote.PREPARED

    def commit(self, transaction: Transaction) -> None:
        """See `Resource`."""
        try:
            (self._prepared / transaction.id).rename(self._committed / transaction.id)
        except FileNotFoundError:
            if not (self._committed / transaction.id).exists():
                raise

    def abort(self, transaction: Transaction) -> None:
        """See `Resource`."""
        (self._prepared / transaction.id).unlink(missing_ok=True)

    def pending(self) -> list[tuple[float, Transaction]]:
        """What it has prepared and since when."""
        found = []
        for file in self._prepared.iterdir():
            try:
                found.append((file.stat().st_mtime, decode(file.name, file.read_bytes())))
            except FileNotFoundError:  # it has ended meanwhile
                continue
        return found


def run_resource(place: Place, name: str, proposer: int, random: Random, kill: float, refuses: float) -> None:
    """Serve a resource to managers, and recover what it has prepared and hears nothing of."""
    mortal = Mortal(1 + random.randrange(round(20 / kill)) if kill else 0)
    files = Files(place, name, random, refuses)
    manager = MortalManager(place, proposer, mortal)
    started = time.time()
    threading.Thread(target=_recover, args=(files, manager, started), daemon=True).start()
    with socket.create_server(place.resources[name], backlog=64) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_serve, args=(files, mortal, connection), daemon=True).start()


def _recover(files: Files, manager: Manager, started: float) -> NoReturn:
    while True:
        for since, transaction in files.pending():
            if since < started or time.time() - since > PATIENCE:
                try:
                    manager.recover(transaction, [files])
                except Undecided:
                    continue  # a majority will come back
        time.sleep(0.1)


def _serve(files: Files, mortal: Mortal, connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as lines:
        asked = lines.readline()
        if not asked:
            return  # the manager was killed before it had asked
        what, id_, meta, names = json.loads(asked)
        mortal.step()
        found = getattr(files, what)(Transaction(id_, tuple(names), meta.encode()))
        mortal.step()
        try:
            connection.sendall(json.dumps("" if found is None else found.name).encode() + b"\n")
        except OSError:
            return  # the manager has been killed


class Afar:
    """A resource in a process of its own, as a manager sees it."""

    def __init__(self, place: Place, name: str) -> None:
        self.name = name
        self._address = place.resources[name]

    def prepare(self, transaction: Transaction) -> Vote:
        """See `Resource`."""
        return Vote[self._ask("prepare", transaction)]

    def commit(self, transaction: Transaction) -> None:
        """See `Resource`."""
        self._ask("commit", transaction)

    def abort(self, transaction: Transaction) -> None:
        """See `Resource`."""
        self._ask("abort", transaction)

    def _ask(self, what: str, transaction: Transaction) -> str:
        asked = (what, transaction.id, transaction.meta.decode(), transaction.resources)
        with socket.create_connection(self._address, timeout=2.0) as connection:
            connection.sendall(json.dumps(asked).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer = lines.readline()
        if not answer:
            raise EpaxosError(f"{self.name} ended before it answered")
        found: str = json.loads(answer)
        return found


def run_manager(place: Place, number: int, proposer: int, random: Random, kill: float) -> None:
    """One transaction, over some of the resources; what came of it goes to a file."""
    killed = random.random() < kill
    names = random.sample([*place.resources], random.randint(1, len(place.resources)))
    # It opens, looks and removes, and each resource prepares, votes and is told: a step before each and one after.
    steps = 2 * (3 + 3 * len(names))
    manager = MortalManager(place, proposer, Mortal(random.randint(1, steps) if killed else 0))
    began = time.monotonic()
    try:
        ended = manager.run([Afar(place, name) for name in names], str(number).encode())
        id_, outcome = ended.transaction.id, ended.outcome.value
    except Undecided as error:  # a node ended in the middle: the resources learn what came of it
        id_, outcome = error.transaction.id, "undecided"
    told = json.dumps(
        {
            "id": id_,
            "outcome": outcome,
            "resources": names,
            "seconds": time.monotonic() - began,
        }
    )
    draft = place.folder / f"{number}.draft"
    draft.write_text(told)
    draft.rename(place.folder / "ended" / str(number))
