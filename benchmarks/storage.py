"""What a storage engine costs a round: SQLite (ours), LMDB, RocksDB and the floor, in turns.

The floor is the same bytes appended to a file, and fdatasync. The others need `pip install lmdb rocksdict`, and
are left out where they are missing. Each cycle runs every engine on data that grows from cycle to
cycle: rounds alone, rounds with a slice of a checkpoint staged in each, rounds while that is committed in
another thread, rounds while another thread scans a snapshot, and opening again. Old slots are dropped on the way.

A round puts the payload of one instance, its record, and those of the two before it once more. Beside all
that a thread that wakes every millisecond notes how late it wakes: how long an engine keeps the GIL.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import struct
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from epaxos.storage.engine import Engine, Identity, open_engine

Puts = Sequence[tuple[bytes, bytes]]

SEED = random.Random(1)
NOISE = SEED.randbytes(1 << 20)
KEPT = 1500
DROP_EVERY = 250
STATE_KEYS = 1_000_000
SCAN = 64 << 10


def log_key(slot: int, kind: int) -> bytes:
    """The key of a payload (kind 0) or record (1); three owners take turns."""
    return struct.pack(">HQB", slot % 3, slot, kind)


def noise(size: int) -> bytes:
    """`size` bytes that do not compress."""
    start = SEED.randrange(len(NOISE) - size)
    return NOISE[start : start + size]


def round_of(slot: int, payload: int) -> Puts:
    """What the acceptor of instance `slot` makes durable in one round."""
    records = [(log_key(old, 1), noise(120)) for old in range(max(slot - 2, 0), slot + 1)]
    return [(log_key(slot, 0), noise(payload)), *records]


class Ours:
    """The engine of the package, under each sync."""

    def __init__(self, directory: Path, sync: str = "always") -> None:
        identity = Identity(1, "alpha")
        self.engine: Engine = open_engine("sqlite", directory, identity, sync, 0.1, create=True)
        self.write = self.engine.write_log
        self.drop = self.engine.drop_log
        self.stage = self.engine.stage_state
        self.commit = self.engine.commit_state
        self.close = self.engine.close

    def entries(self) -> int:
        """Entries of the log, all of them read."""
        return sum(1 for _ in self.engine.scan_log())

    def scan(self) -> int:
        """Entries of the state, all of them read."""
        snapshot = self.engine.snapshot_state()
        count, after = 0, b""
        while found := snapshot.scan(after, SCAN):
            count, after = count + len(found), found[-1][0]
        snapshot.close()
        return count


class Floor:
    """The same bytes appended to a file, and synced."""

    def __init__(self, directory: Path) -> None:
        self.file = os.open(directory / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, puts: Puts) -> None:
        """Append."""
        os.write(self.file, b"".join(key + value for key, value in puts))
        os.fdatasync(self.file)

    def drop(self, ranges: Puts, puts: Puts) -> None:
        """Keep everything."""

    def stage(self, puts: Puts) -> None:
        """Keep nothing."""

    def commit(self) -> None:
        """Keep nothing."""

    def entries(self) -> int:
        """None."""
        return 0

    def scan(self) -> int:
        """None."""
        return 0

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)


class Lmdb:
    """LMDB, an environment each for log and state; what is staged waits in memory."""

    def __init__(self, directory: Path) -> None:
        import lmdb  # noqa: PLC0415 optional

        self.log: Any = lmdb.open(str(directory / "log"), map_size=16 << 30)
        self.state: Any = lmdb.open(str(directory / "state"), map_size=16 << 30)
        self.staged: list[tuple[bytes, bytes]] = []

    def write(self, puts: Puts) -> None:
        """One transaction."""
        with self.log.begin(write=True) as transaction:
            for key, value in puts:
                transaction.put(key, value)

    def drop(self, ranges: Puts, _: Puts) -> None:
        """Delete key by key."""
        with self.log.begin(write=True) as transaction:
            cursor = transaction.cursor()
            for first, last in ranges:
                found = cursor.set_range(first)
                while found and cursor.key() <= last:
                    found = cursor.delete()

    def stage(self, puts: Puts) -> None:
        """Remember."""
        self.staged += puts

    def commit(self) -> None:
        """One transaction."""
        with self.state.begin(write=True) as transaction:
            transaction.cursor().putmulti(self.staged)
        self.staged = []

    def entries(self) -> int:
        """Entries of the log."""
        return self._count(self.log)

    def scan(self) -> int:
        """Entries of the state."""
        return self._count(self.state)

    def close(self) -> None:
        """Close both."""
        self.log.close()
        self.state.close()

    @staticmethod
    def _count(environment: Any) -> int:
        with environment.begin() as transaction:
            return sum(1 for _ in transaction.cursor())


class RocksDb:
    """RocksDB, a database each for log and state; what is staged is one batch in memory."""

    def __init__(self, directory: Path) -> None:
        import rocksdict  # noqa: PLC0415 optional

        self.batch: Callable[[], Any] = lambda: rocksdict.WriteBatch(raw_mode=True)
        self.synced: Any = rocksdict.WriteOptions()
        self.synced.sync = True
        self.log: Any = rocksdict.Rdict(str(directory / "log"), rocksdict.Options(raw_mode=True))
        self.state: Any = rocksdict.Rdict(str(directory / "state"), rocksdict.Options(raw_mode=True))
        self.staged = self.batch()

    def write(self, puts: Puts) -> None:
        """One batch."""
        batch = self.batch()
        for key, value in puts:
            batch.put(key, value)
        self.log.write(batch, self.synced)

    def drop(self, ranges: Puts, _: Puts) -> None:
        """One tombstone a range."""
        batch = self.batch()
        for first, last in ranges:
            batch.delete_range(first, last + b"\0")
        self.log.write(batch)

    def stage(self, puts: Puts) -> None:
        """Add to the batch."""
        for key, value in puts:
            self.staged.put(key, value)

    def commit(self) -> None:
        """Write the batch."""
        self.state.write(self.staged, self.synced)
        self.staged = self.batch()

    def entries(self) -> int:
        """Entries of the log."""
        return sum(1 for _ in self.log.items())

    def scan(self) -> int:
        """Entries of the state."""
        return sum(1 for _ in self.state.snapshot().items())

    def close(self) -> None:
        """Close both."""
        self.log.close()
        self.state.close()


ENGINES: dict[str, Callable[[Path], Any]] = {
    "floor": Floor,
    "sqlite": Ours,
    "sqlite interval": lambda directory: Ours(directory, "interval"),
    "sqlite never": lambda directory: Ours(directory, "never"),
    "lmdb": Lmdb,
    "rocksdb": RocksDb,
}


class Beside:
    """A thread that wants to run every millisecond."""

    def __init__(self) -> None:
        self.late = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            time.sleep(0.001)
            self.late = max(self.late, time.perf_counter() - began - 0.001)

    def worst(self) -> float:
        """The longest delay since the last call, in seconds."""
        late, self.late = self.late, 0.0
        return late

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()


class Run:
    """One engine in one cycle; `figures` has what was measured, in µs, ms or a count a second."""

    def __init__(
        self, make: Callable[[Path], Any], directory: Path, slot: int, options: argparse.Namespace
    ) -> None:
        self.options = options
        self.slot = slot
        self.figures: dict[str, float] = {}
        began = time.perf_counter()
        self.engine = make(directory)
        entries = self.engine.entries()
        if entries:
            self.figures["open, scan log ms"] = (time.perf_counter() - began) * 1e3
        self.beside = Beside()

    def run(self) -> None:
        """All phases."""
        rounds = self.options.rounds
        self._note("plain", list(self._rounds(rounds)))
        self._note("staging", list(self._rounds(rounds, self.options.keys // rounds)))
        self._note("committing", self._while(self.engine.commit, "commit ms"))
        self._note("scanning", self._while(self._scan, "scan ms"))
        self.beside.stop()
        self.engine.close()

    def _rounds(self, count: int, staged: int = 0) -> Iterator[float]:
        """Write rounds one behind the other; yields the seconds each took."""
        for _ in range(count):
            puts = round_of(self.slot, self.options.payload)
            self.slot += 1
            began = time.perf_counter()
            self.engine.write(puts)
            yield time.perf_counter() - began
            if self.slot % DROP_EVERY == 0 and self.slot > KEPT:
                began = time.perf_counter()
                ranges = [
                    (log_key(row, 0)[:2], log_key(row, 0)[:2] + log_key(self.slot - KEPT, 2)[2:])
                    for row in range(3)
                ]
                self.engine.drop(ranges, [])
                self.figures[f"drop {DROP_EVERY} slots µs"] = (time.perf_counter() - began) * 1e6
            if staged:
                keys = (SEED.randrange(STATE_KEYS) for _ in range(staged))
                slice_ = [(b"%016d" % key, noise(100)) for key in keys]
                began = time.perf_counter()
                self.engine.stage(slice_)
                self.figures["stage a key µs"] = (time.perf_counter() - began) / staged * 1e6

    def _while(self, work: Callable[[], object], what: str) -> list[float]:
        """Rounds as long as another thread works."""
        done = threading.Event()

        def helper() -> None:
            began = time.perf_counter()
            work()
            self.figures[what] = (time.perf_counter() - began) * 1e3
            done.set()

        self.beside.worst()
        thread = threading.Thread(target=helper)
        thread.start()
        times = list(self._rounds(1))
        while not done.is_set():
            times += self._rounds(1)
        thread.join()
        return times

    def _scan(self) -> None:
        began = time.perf_counter()
        count = self.engine.scan()
        if count:
            self.figures["scan keys/s"] = count / (time.perf_counter() - began)

    def _note(self, phase: str, times: list[float]) -> None:
        times.sort()
        self.figures[f"{phase} p50 µs"] = times[len(times) // 2] * 1e6
        self.figures[f"{phase} p99 µs"] = times[int(len(times) * 0.99)] * 1e6
        self.figures[f"{phase} max µs"] = times[-1] * 1e6
        self.figures[f"{phase} beside ms"] = self.beside.worst() * 1e3


def size_of(directory: Path) -> float:
    """MiB on disk, as allocated."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file()) / (1 << 20)


def measure(names: Sequence[str], options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Figures by name and engine, one of each cycle."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    slots = dict.fromkeys(names, 0)
    root = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        for _ in range(options.cycles):
            for name in names:
                directory = root / name.replace(" ", "-")
                directory.mkdir(exist_ok=True)
                run = Run(ENGINES[name], directory, slots[name], options)
                run.run()
                slots[name] = run.slot
                run.figures["size MiB"] = size_of(directory)
                for what, figure in run.figures.items():
                    found[what][name].append(figure)
    finally:
        shutil.rmtree(root)
    return found


def available(name: str) -> bool:
    """Whether the engine's package is installed."""
    directory = tempfile.mkdtemp()
    try:
        ENGINES[name](Path(directory)).close()
    except ImportError:
        return False
    finally:
        shutil.rmtree(directory)
    return True


def main(argv: Sequence[str]) -> int:
    """Print medians over the cycles, and in brackets the best cycle."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/run storage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cycles", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1000, help="of a phase")
    parser.add_argument("--keys", type=int, default=100_000, help="of a checkpoint")
    parser.add_argument("--payload", type=int, default=4096, help="bytes")
    parser.add_argument("--directory", help="where to write; on the disk to be measured")
    parser.add_argument("--only", nargs="*", default=list(ENGINES), help="engines")
    options = parser.parse_args(argv)
    names = [name for name in options.only if available(name)]
    print(f"{'':22}" + "".join(f"{name:>19}" for name in names))
    for what, figures in measure(names, options).items():
        cells = (
            f"{statistics.median(figures[name]):>11.4g} ({min(figures[name]):>5.4g})" if figures[name] else ""
            for name in names
        )
        print(f"{what:22}" + "".join(f"{cell:>19}" for cell in cells))
    return 0
