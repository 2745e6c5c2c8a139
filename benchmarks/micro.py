"""What the parts on the path of a command cost by themselves, in microseconds for each command.

Each part is measured with frames of 1, 33 and 1000 commands, best of several rounds: what is per frame and
what is per command can be told apart. Arguments are words: only parts whose names contain one are run.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator, Sequence

import msgpack

from epaxos.bench.histogram import Latencies
from epaxos.bench.session import Session
from epaxos.bench.workload import Columns, Stream, Workload
from epaxos.statemachine.batch import (
    Limits,
    decode_batch,
    decode_payload,
    encode_batch,
    make_payload,
)
from epaxos.statemachine.checks import check_batch
from epaxos.transport.framing import Kind, open_frame, seal

SIZES = (1, 33, 1000)
ROUNDS = 7
CLUSTER = 12345
WORKLOAD = Workload(clients=3, keys=100_000, key_size=8, value_size=8, writes=100)
HOT = Workload(clients=3, keys=100_000, key_size=8, value_size=8, writes=50, conflicts=25)
ZIPF = Workload(clients=3, keys=100_000, key_size=8, value_size=8, writes=50, zipf=0.99)

Part = tuple[str, Callable[[], object]]


def codec(columns: Columns) -> Iterator[Part]:
    """What the client library encodes, and what a replica does with it before consensus."""
    batch = (1, 1, 1, columns.operations, columns.keys, columns.arguments)
    encoded = encode_batch(*batch)
    decoded = decode_batch(encoded)
    frame = seal(Kind.REQUEST, CLUSTER, encoded)
    payload = make_payload([decoded]).encoded
    yield "encode batch", lambda: encode_batch(*batch)
    yield "seal frame", lambda: seal(Kind.REQUEST, CLUSTER, encoded)
    yield "open frame", lambda: open_frame(frame, CLUSTER, 1 << 25)
    yield "decode batch", lambda: decode_batch(encoded)
    yield "check batch", lambda: check_batch(decoded, Limits())
    yield "make payload", lambda: make_payload([decoded])
    yield "decode payload", lambda: decode_payload(payload)


def generator(size: int) -> Iterator[Part]:
    """What the load generator does for its commands, but for the socket."""
    plain, hot, zipf = (Stream(workload, 0) for workload in (WORKLOAD, HOT, ZIPF))
    latencies = Latencies()
    session = Session(Stream(WORKLOAD, 0), 0, size, CLUSTER)
    reply = seal(Kind.REPLY, CLUSTER, msgpack.packb((session.id, 1, bytes(size), None)))

    def round_trip() -> None:
        flight = session.take_off(size, 0)
        msgpack.unpackb(open_frame(reply, CLUSTER, 1 << 25).body)
        session.land(flight.first)

    yield "make writes, no conflicts", lambda: plain.take(size)
    yield "make commands, 25 % hot", lambda: hot.take(size)
    yield "make commands, Zipf", lambda: zipf.take(size)
    yield "record latency", lambda: latencies.record(450_123, size)
    yield "send and take answer", round_trip


def cost(part: Callable[[], object], size: int) -> float:
    """Microseconds for each command."""
    timer = timeit.Timer(part)
    number = max(1, timer.autorange()[0] // 4)
    return min(timer.repeat(ROUNDS, number)) / number / size * 1e6


def main(words: Sequence[str]) -> int:
    """Print a table: a line for each part, a column for each size of a frame."""
    table: dict[str, list[float]] = {}
    for size in SIZES:
        columns = Stream(WORKLOAD, 0).take(size)
        for name, part in [*codec(columns), *generator(size)]:
            if not words or any(word in name for word in words):
                table.setdefault(name, []).append(cost(part, size))
    print(f"{'µs for each command, in frames of':34}" + "".join(f"{size:>8}" for size in SIZES))
    for name, costs in table.items():
        print(f"{name:34}" + "".join(f"{value:8.3f}" for value in costs))
    return 0
