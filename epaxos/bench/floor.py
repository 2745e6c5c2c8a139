"""The floor under a command's latency: what the network library alone costs.

A command goes from its client to a replica, from there to a peer, and back the same way. The floor is the
median of exactly that, done by plain processes that only echo: the client asks process A, A asks process B,
over ZeroMQ DEALER and ROUTER sockets on the loopback, with nothing else in between. What a command takes
longer than the floor is the work of this project, so their ratio means the same on every machine.

Run as a module, this is one of the two processes: ``python -m epaxos.bench.floor [ENDPOINT]`` echoes by
itself, or asks ENDPOINT first. It prints its own endpoint and ends when its standard input does.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from select import select
from time import perf_counter, perf_counter_ns
from typing import Final, Self

import zmq

from epaxos.bench.histogram import Latencies
from epaxos.errors import EpaxosError

MESSAGE: Final = bytes(64)
"""About as long as the frame of one write of 8 bytes to a key of 8 bytes."""

_PATIENCE_MS: Final = 10_000
_IDLE_MS: Final = 500


class FloorError(EpaxosError):
    """The two echo processes did not start or did not answer."""


class Floor:
    """Two echo processes, and the round trips through both that were measured so far.

    A context manager: it starts the processes and ends them.
    """

    def __init__(self) -> None:
        self.latencies = Latencies()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            far = stack.enter_context(_echo())
            near = stack.enter_context(_echo(far))
            context = stack.enter_context(zmq.Context())
            self._socket = stack.enter_context(context.socket(zmq.DEALER))
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.RCVTIMEO, _PATIENCE_MS)
            self._socket.connect(near)
            self._round_trips(50)  # connections are made and caches are warm after these
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, seconds: float) -> None:
        """Add round trips for about so long.

        Raises:
            FloorError: an echo process does not answer.
        """
        end = perf_counter() + seconds
        while perf_counter() < end:
            for taken in self._round_trips(20):
                self.latencies.record(taken)

    def _round_trips(self, count: int) -> list[int]:
        send, receive = self._socket.send, self._socket.recv
        taken = []
        try:
            for _ in range(count):
                begin = perf_counter_ns()
                send(MESSAGE)
                receive()
                taken.append(perf_counter_ns() - begin)
        except zmq.Again as error:
            raise FloorError("--floor: the echo processes do not answer") from error
        return taken


@contextmanager
def _echo(ask: str | None = None) -> Iterator[str]:
    """A running echo process; yields its endpoint."""
    command = [sys.executable, "-m", "epaxos.bench.floor", *([ask] if ask else [])]
    with subprocess.Popen(  # noqa: S603  our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            if not endpoint:
                raise FloorError("--floor: cannot start the echo processes")
            yield endpoint
        finally:
            process.kill()  # it holds nothing but its sockets


def main(arguments: list[str]) -> None:
    """Echo until standard input ends; with an endpoint as argument, ask there before each answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the benchmark
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        router.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.RCVTIMEO, _PATIENCE_MS)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        if arguments:
            dealer.connect(arguments[0])
        print(f"tcp://127.0.0.1:{port}", flush=True)  # noqa: T201  the parent reads it
        _serve(router, dealer if arguments else None)


def _serve(router: zmq.Socket[bytes], dealer: zmq.Socket[bytes] | None) -> None:
    """Echo with plain blocking calls; once in a while without a message, see whether the parent lives."""
    router.setsockopt(zmq.RCVTIMEO, _IDLE_MS)
    while True:
        try:
            client, message = router.recv_multipart()
        except zmq.Again:
            if select([sys.stdin], [], [], 0)[0]:
                return
            continue
        if dealer is not None:
            dealer.send(message)
            message = dealer.recv()
        router.send_multipart((client, message))


if __name__ == "__main__":
    main(sys.argv[1:])
