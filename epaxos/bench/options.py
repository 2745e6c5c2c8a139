"""The options of a benchmark run: what each means, its default, and which go together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Final

from epaxos.bench.workload import AUTHOR_SIZE, MAX_CLIENTS, Workload
from epaxos.client.reading import READINGS
from epaxos.errors import EpaxosError
from epaxos.statemachine.operations import Operation

DEFAULT_DURATION: Final = 5.0
DEFAULT_WINDOW: Final = 1000
DEFAULT_BATCH: Final = 33
DEFAULT_KEYS: Final = 100_000
MAX_BATCH: Final = 100_000
MAX_CONNECTIONS: Final = 10_000
MIN_SERIES: Final = 0.001
FRAME_BYTES: Final = 1024 * 1024
"""Where a frame is full, as in the client library: larger ones cost no less per command."""


class OptionError(EpaxosError):
    """An option, or two together, that cannot be used; one line that says what is allowed."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much work: a number of operations, or a time in seconds; exactly one of them is set."""

    operations: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.operations} operations" if self.seconds is None else f"{self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """A benchmark run, resolved: every value is the one that is used.

    `timeout` (seconds) is how long a command may take in all, before it is given up; `tries` replicas are
    tried meanwhile, each for an equal share of it.
    `rate` is in commands a second over all clients; None sends whenever the window has room. `series` is the length
    of an interval (seconds) in which answers are counted; None counts none.
    `batch` is the number of commands in one frame at most. Each replica has so many `connections`, which its clients
    share. `reads` is how what only reads is read: if at observers, at those of the names `observers`, in turn.

    Raises:
        OptionError: a value out of its range, or values that do not go together.
    """

    replicas: tuple[str, ...]
    clients: int
    connections: int = 1
    stop: Amount = field(default_factory=lambda: Amount(seconds=DEFAULT_DURATION))
    warmup: Amount = field(default_factory=lambda: Amount(operations=0))
    closed: bool = False
    window: int = DEFAULT_WINDOW
    batch: int = DEFAULT_BATCH
    rate: float | None = None
    keys: int = DEFAULT_KEYS
    key_size: int = 8
    value_size: int = 8
    writes: float = 100.0
    reads: str = "log"
    observers: tuple[str, ...] = ()
    conflicts: float = 0.0
    zipf: float | None = None
    seed: int = 0
    timeout: float = 2.0
    tries: int = 3
    floor: bool = False
    series: float | None = None
    verify: bool = False

    def __post_init__(self) -> None:
        if not self.replicas:
            raise OptionError("--replicas: at least one name is needed")
        if len(set(self.replicas)) < len(self.replicas):
            raise OptionError("--replicas: a name is given twice")
        _check_range("--clients", self.clients, 1, MAX_CLIENTS)
        _check_range("--connections", self.connections, 1, MAX_CONNECTIONS)
        _check_range("--window", self.window, 1, 10_000_000)
        _check_range("--batch", self.batch, 1, MAX_BATCH)
        _check_range("--keys", self.keys, self.clients, 100_000_000)
        _check_range("--key-size", self.key_size, 1, 2**31)
        _check_range("--value-size", self.value_size, 0, 2**31)
        _check_range("--writes", self.writes, 0, 100)
        _check_range("--conflicts", self.conflicts, 0, 100)
        _check_range("--tries", self.tries, 1, 1000)
        _check_positive("--timeout", self.timeout)
        _check_positive("--rate", self.rate)
        if self.series is not None:
            _check_range("--series", self.series, MIN_SERIES, 3600)
        _check_positive("--operations", self.stop.operations)
        _check_positive("--duration", self.stop.seconds)
        self._check_keys()
        if self.reads not in READINGS:
            raise OptionError(f"--reads {self.reads}: allowed: {', '.join(READINGS)}")
        self._check_reads()
        self._check_verify()

    def _check_keys(self) -> None:
        if self.zipf is not None:
            _check_range("--zipf", self.zipf, 0, 100)
            if self.conflicts:
                raise OptionError("--zipf and --conflicts exclude each other: choose one kind of conflict")
        if len(str(self.keys)) > self.key_size:
            raise OptionError(
                f"--keys {self.keys}: keys are decimal numbers, so at most {10**self.key_size - 1} "
                f"of them fit in --key-size {self.key_size}"
            )

    def _check_reads(self) -> None:
        if self.reads != "log" and self.writes == 100:
            raise OptionError(f"--reads {self.reads} needs something to read: --writes must be below 100")
        if self.reads == "observer" and not self.observers:
            raise OptionError("--reads observer needs an observer in the file, under [[observers]]")

    def _check_verify(self) -> None:
        if not self.verify:
            return
        if self.reads != "log":
            raise OptionError(
                f"--verify and --reads {self.reads} exclude each other: only the log tells an order"
            )
        if self.value_size < AUTHOR_SIZE:
            raise OptionError(
                f"--verify needs --value-size {AUTHOR_SIZE} or more: each value says who wrote it"
            )
        if self.window > self.keys // self.clients:
            raise OptionError(
                f"--verify needs more --keys than commands outstanding: at least {self.window * self.clients}"
            )

    @property
    def frame(self) -> int:
        """How many commands a frame holds at most: `batch`, or what comes to a MiB."""
        return max(1, min(self.batch, FRAME_BYTES // (self.key_size + self.value_size)))

    def workload(self, tag: int) -> Workload:
        """The mix of commands that these options describe; `tag` (16 bits) marks the run's values."""
        return Workload(
            clients=self.clients,
            keys=self.keys,
            key_size=self.key_size,
            value_size=self.value_size,
            writes=self.writes,
            conflicts=self.conflicts,
            zipf=self.zipf,
            seed=self.seed,
            shared_write=Operation.WRITEREAD if self.verify else Operation.WRITE,
            tag=tag,
            reading=READINGS[self.reads],
        )

    def as_dict(self) -> dict[str, object]:
        """Every option by its name, for the JSON report; times in seconds, sizes in bytes."""
        values: dict[str, object] = asdict(self)
        for name in ("stop", "warmup"):
            del values[name]
        return values | {
            "operations": self.stop.operations,
            "duration": self.stop.seconds,
            "warmup_operations": self.warmup.operations,
            "warmup_duration": self.warmup.seconds,
            "replicas": list(self.replicas),
            "observers": list(self.observers),
        }


def _check_range(option: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise OptionError(f"{option} {value:g}: must be from {lowest} to {highest}")


def _check_positive(option: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise OptionError(f"{option} {value:g}: must be more than 0")
