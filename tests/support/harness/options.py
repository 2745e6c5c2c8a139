"""What one seed makes of a run: the cluster, the workload and the faults."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from epaxos.protocol.quorums import Quorums, allowed, make_quorums
from harness.commands import Access


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run, all of it; times in seconds.

    commands    how many are proposed, spread evenly at random over `spread`
    keys        how many there are; `hot` of the accesses, as a share, go to the first
    width       how many keys a command touches at most
    reads       the share of accesses that only read
    delay       shortest and longest way of a message
    loss        the share of messages lost until the network heals
    duplicates  the share of messages that arrive twice
    rounds      if not 0, replicas take what has arrived only at multiples of it, joined in one round
    hints       how many times a failure detector changes its mind, rightly or not
    wire        whether messages pass through the codec
    """

    seed: int = 0
    n: int = 3
    f: int | None = None
    e: int | None = None
    thrifty: bool = False
    commands: int = 30
    keys: int = 4
    hot: float = 0.5
    width: int = 1
    reads: float = 0.0
    spread: float = 0.5
    delay: tuple[float, float] = (0.01, 0.01)
    loss: float = 0.0
    duplicates: float = 0.0
    rounds: float = 0.0
    hints: int = 0
    wire: bool = False
    beacon: float = 0.1
    fast_path_timeout: float = 0.05
    retry: float = 0.2

    @property
    def quorums(self) -> Quorums:
        return make_quorums(self.n, self.f, self.e)


def draw_options(n: int, seed: int) -> Options:
    """A hostile run of a cluster of n replicas."""
    random = Random(f"{n}/{seed}")
    f, e = random.choice([(f, e) for f in range(n) for e in range(n) if allowed(n, f, e)])
    usual = random.random() < 0.5
    return Options(
        seed=seed,
        n=n,
        f=None if usual else f,
        e=None if usual else e,
        thrifty=random.random() < 0.5,
        commands=random.randint(10, 30),
        keys=random.choice((1, 2, 5, 20)),
        hot=random.choice((0.0, 0.5)),
        width=random.choice((1, 1, 3)),
        reads=random.choice((0.0, 0.3, 0.8)),
        spread=random.choice((0.01, 0.1, 1.0)),
        delay=random.choice(((0.001, 0.002), (0.005, 0.05), (0.001, 0.3))),
        loss=random.choice((0.0, 0.05, 0.3)),
        duplicates=random.choice((0.0, 0.1, 0.5)),
        rounds=random.choice((0.0, 0.02)),
        hints=random.choice((0, 5)),
        wire=random.random() < 0.3,
    )


def draw_commands(options: Options) -> list[tuple[float, int, Access]]:
    """When which replica is asked to order which command."""
    random = Random(options.seed)
    workload = []
    for name in range(options.commands):
        keys = {_draw_key(options, random) for _ in range(random.randint(1, options.width))}
        only_read = {key for key in sorted(keys) if random.random() < options.reads}
        command = Access(name, tuple(sorted(only_read)), tuple(sorted(keys - only_read)))
        workload.append((random.uniform(0, options.spread), random.randrange(options.n), command))
    return workload


def _draw_key(options: Options, random: Random) -> bytes:
    return b"k%d" % (0 if random.random() < options.hot else random.randrange(options.keys))
