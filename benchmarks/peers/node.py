"""A process of a program that PySyncObj replicates: `node PORT NUMBER PLACE,PLACE,PLACE`.

Whoever connects to PORT writes a line `COMMANDS SECONDS`, and is told as JSON what so many commands under way came to.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
import time

from pysyncobj import FAIL_REASON, SyncObj, replicated

from benchmarks.peers.driver import VALUE, Watch


class Store(SyncObj):  # type: ignore[misc]  # ships no types
    """A map that is replicated."""

    def __init__(self, own: str, others: list[str]) -> None:
        self.values: dict[bytes, bytes] = {}
        super().__init__(own, others)

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: bytes, value: bytes) -> None:
        """One command."""
        self.values[key] = value


def load(store: Store, commands: int, seconds: float) -> dict[str, float]:
    """Keep so many commands under way; every answer, or refusal, issues the next one."""
    watch = Watch(seconds)
    ended = threading.Semaphore(0)

    def issue(number: int) -> None:
        sent = time.perf_counter()

        def answered(_result: object, error: int) -> None:
            done = error == FAIL_REASON.SUCCESS
            if watch.note(sent, 1 if done else 0):
                issue(number + 1)
            else:
                ended.release()

        store.put(b"%08d" % (number % 10_000), VALUE, callback=answered)

    for at in range(commands):
        issue(7919 * at)
    for _ in range(commands):
        ended.acquire(timeout=seconds + 10)
    return watch.sample()


def main(port: str, number: str, places: str) -> None:
    """Join the others, and serve loads until the process is ended."""
    members = places.split(",")
    own = members.pop(int(number))
    store = Store(own, members)
    while not store.isReady():
        time.sleep(0.05)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            if line := self.rfile.readline().split():
                sample = load(store, int(line[0]), float(line[1]))
                self.wfile.write(json.dumps(sample).encode() + b"\n")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

    with Server(("127.0.0.1", int(port)), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
