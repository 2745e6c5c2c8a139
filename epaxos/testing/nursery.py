"""Replicas for tests as forks of a process that has imported all that they need: a start without the imports.

`python -m epaxos.testing.nursery FD` takes orders from the socket FD until that ends. Each comes with four files: the
standard ones, and a pipe that is told the process's number and, when it has ended, its status. The fork then goes on
as `python -m epaxos` would that was started there, with that environment; as `python -c` if that is its first argument.

Forks of one nursery have the same seed of hashes. A cluster uses `KINDS` of them, so that not all of its replicas
iterate over sets in the same order.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, Final, NamedTuple

from epaxos.errors import EpaxosError

IS_POSSIBLE: Final = hasattr(os, "pidfd_open") and hasattr(socket, "SOCK_SEQPACKET")
KINDS: Final = 2
PROGRAM: Final = "-c"
"""The argument before the text of a program."""

_NUMBER: Final = struct.Struct("i")
_ORDER_BYTES: Final = 1 << 20
_IMPORTED: Final = "epaxos.cli.serve"  # by its name: a command may import this package, not the other way
_PREFIX: Final = "PYTHON"  # variables that the interpreter heeds at its start


class NurseryGone(EpaxosError):
    """A nursery has ended before its forks."""


class Fork:
    """A process that was started by a nursery; what is used of `subprocess.Popen`."""

    def __init__(self, told: int, stdin: IO[bytes]) -> None:
        self._told = told
        self._reading = threading.Lock()
        self.stdin = stdin
        self.returncode: int | None = None
        self.pid = self._read()

    def poll(self) -> int | None:
        """Its exit status, minus the signal that killed it, None while it runs."""
        self._hear(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        self._hear(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("epaxos", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)

    def _hear(self, timeout: float | None) -> None:
        """Wait until it has ended, for so many seconds at most."""
        with self._reading:
            if self.returncode is None and _is_ready(self._told, timeout):
                self.returncode = os.waitstatus_to_exitcode(self._read())
                os.close(self._told)

    def _read(self) -> int:
        told = os.read(self._told, _NUMBER.size)
        if not told:
            raise NurseryGone("the process that starts replicas has ended")
        number: int = _NUMBER.unpack(told)[0]
        return number


def _is_ready(descriptor: int, timeout: float | None) -> bool:
    poll = select.poll()  # takes any descriptor, as `select.select` does not
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


class Nursery:
    """A nursery, which ends with this process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with closing(theirs):
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )

    def start(
        self,
        arguments: Sequence[str],
        output: IO[bytes],
        environment: Mapping[str, str],
        cwd: Path,
        errors: IO[bytes] | None = None,
    ) -> Fork:
        """Start the command `epaxos` with all it prints in `output`, and a pipe for its standard input.

        What it prints to standard error goes to `errors` if there is one.
        """
        order = json.dumps([list(arguments), dict(environment), str(cwd)]).encode()
        stdin, ours = os.pipe()
        told, tell = os.pipe()
        try:
            socket.send_fds(
                self._orders, [order], [stdin, output.fileno(), (errors or output).fileno(), tell]
            )
        finally:
            os.close(stdin)
            os.close(tell)
        return Fork(told, os.fdopen(ours, "wb"))


_nurseries: dict[tuple[int, int, frozenset[tuple[str, str]]], Nursery] = {}


def nursery(environment: Mapping[str, str], kind: int) -> Nursery:
    """A nursery of this process whose interpreter was started with such an environment."""
    heeded = frozenset((name, text) for name, text in environment.items() if name.startswith(_PREFIX))
    key = os.getpid(), kind % KINDS, heeded
    if key not in _nurseries:
        _nurseries[key] = Nursery(environment)
    return _nurseries[key]


# -- in the nursery ----------------------------------------------------------------------------------------


class _Order(NamedTuple):
    arguments: list[str]
    environment: dict[str, str]
    cwd: str


def take_orders(orders: socket.socket) -> list[str] | None:
    """Fork as told until nobody is left to tell; in a fork, its arguments."""
    running: dict[int, tuple[int, int]] = {}  # by the descriptor of a fork: its number, and whom to tell
    poll = select.poll()
    poll.register(orders, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != orders.fileno():
                pid, tell = running.pop(ready)
                poll.unregister(ready)
                os.close(ready)
                _tell(tell, os.waitpid(pid, 0)[1])
                os.close(tell)
                continue
            text, files, _, _ = socket.recv_fds(orders, _ORDER_BYTES, 4)
            if not text:
                return None
            order = _Order(*json.loads(text))
            pid = os.fork()
            if not pid:
                return _become(order, files)
            os.setpgid(pid, pid)
            tell = files.pop()
            for file in files:
                os.close(file)
            _tell(tell, pid)
            child = os.pidfd_open(pid)
            running[child] = pid, tell
            poll.register(child, select.POLLIN)


def _tell(whom: int, number: int) -> None:
    try:
        os.write(whom, _NUMBER.pack(number))
    except BrokenPipeError:
        return  # who started it does not want to know


def _become(order: _Order, files: list[int]) -> list[str]:
    """Be, in the fork, as a process that was started with these files in this place."""
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(order.cwd)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.path[0] = order.cwd
    return order.arguments


def main() -> None:
    """Import what replicas need, and fork them."""
    import_module(_IMPORTED)
    gc.collect()
    gc.freeze()  # what all forks share stays shared
    orders = socket.socket(fileno=int(sys.argv[1]))
    arguments = take_orders(orders)
    if arguments is not None:
        orders.detach()
        if arguments[:1] == [PROGRAM]:
            _run_program(arguments[1])
            return
        sys.argv[1:] = arguments
        runpy.run_module("epaxos", run_name="__main__", alter_sys=True)


def _run_program(text: str) -> None:
    module = ModuleType("__main__")
    sys.modules["__main__"] = module  # where typing and dataclasses look for what its classes name
    sys.argv[:] = [PROGRAM]
    exec(compile(text, "<string>", "exec"), vars(module))  # noqa: S102 - what Python does with it


if __name__ == "__main__":
    main()
