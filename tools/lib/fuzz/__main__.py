"""Throws bad frames at every socket of a loaded cluster, and proves that nothing stopped, was lost or went uncounted.

Starts the replicas of a configuration, or with --running uses those that run. While the benchmark loads them and
verifies every answer, random and mutated frames go to the sockets of every replica. Then every replica must run,
answer and hold the same state, the load must have had no error, and each replica must have counted every bad
frame that ZeroMQ delivered, under the right kind.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import toml
from rich import box
from rich.console import Console
from rich.table import Table

from differential.talk import Gone, Talk
from epaxos.bench.links import Links
from epaxos.bench.options import Amount, BenchOptions
from epaxos.bench.run import run_bench
from epaxos.bench.settle import settle
from epaxos.client.blocking import Client
from epaxos.config import Config, load_config
from epaxos.errors import ClientError, EpaxosError
from epaxos.protocol.ids import Row
from epaxos.security.keys import SUFFIX, read_key
from epaxos.security.making import Listing, add_client, init_keys
from epaxos.security.passwords import hash_password
from fuzz.barrage import (
    NO_HTTP,
    NO_RESP,
    NO_ZMQ,
    BarrageError,
    Keys,
    Result,
    barrage,
    counted_errors,
    difference,
    knock,
    learn_insiders,
    throw_noise,
    throw_too_large,
)
from fuzz.hostile import UNTOUCHED, Insider
from shared.processes import Children, Interrupted, catch_signals, lifeline, pause
from shared.replicas import (
    ROOT,
    Replica,
    ReplicasError,
    check_alive,
    check_ports,
    start,
    stop,
    wait_until_ready,
)

LOAD_RATE: Final = 2000.0
"""Commands a second while frames are thrown: a load that a busy test machine bears beside them."""

LOAD_SECONDS: Final = 2.0
"""How long one verified run of the load takes; runs follow one another while frames are thrown.

More than a second, so that no two runs write the same values.
"""

NOISE_SHARE: Final = 20
"""One connection of noise for so many frames."""

LIMIT: Final = 600.0
"""Seconds that all the throwing may take."""

console = Console(width=None if sys.stdout.isatty() else 160)
notes = Console(stderr=True, highlight=False)


class FuzzError(EpaxosError):
    """The cluster did not stand it; one line."""


class Load:
    """Verified benchmark runs, one after the other, in a thread; `end` says what was wrong with them."""

    def __init__(self, config: Config) -> None:
        self.commands = 0
        self._config = config
        self._wrong: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        seed = 0
        while not self._over.is_set() and not self._wrong:
            seed += 1
            try:
                self._run_once(seed)
            except EpaxosError as error:
                self._wrong.append(str(error))

    def _run_once(self, seed: int) -> None:
        names = tuple(replica.name for replica in self._config.replicas)
        options = BenchOptions(
            replicas=names,
            clients=len(names),
            stop=Amount(seconds=LOAD_SECONDS),
            rate=LOAD_RATE,
            writes=75,
            conflicts=25,
            seed=seed,
            timeout=10.0,
            verify=True,
        )
        result = run_bench(self._config, options)
        total = result.measured.total()
        self.commands += total.operations
        if not result.fine:
            found = result.verification.findings.texts if result.verification else []
            missing = [f"no answer from {name}" for name in result.unreachable]
            self._wrong.append(
                "; ".join([f"errors {dict(total.errors)}", *missing, *result.measured.remarks, *found])
            )

    def end(self) -> list[str]:
        """Let the run under way come to its end, and tell what was wrong."""
        self._over.set()
        self._thread.join()
        return self._wrong


class Verdict(NamedTuple):
    """What a replica must have counted by kind, and what it has."""

    expected: Counter[str]
    counted: Counter[str]

    @property
    def fine(self) -> bool:
        """Whether they are the same."""
        return self.expected == self.counted


def main(argv: Sequence[str]) -> int:
    """Run it; 0 if the cluster stood it, 1 if not, 128 + signal if it was interrupted."""
    parser = argparse.ArgumentParser(prog="tools/fuzz", description=__doc__, allow_abbrev=False)
    default = str(ROOT / "conf" / "local.toml")
    parser.add_argument("-c", "--config", metavar="FILE", default=default, help="default: %(default)s")
    parser.add_argument(
        "--frames",
        metavar="N",
        type=int,
        default=10_000,
        help="bad frames for each ZeroMQ socket; default: %(default)s",
    )
    parser.add_argument("--seed", metavar="N", type=int, help="the same seed throws the same; default: any")
    parser.add_argument(
        "--running",
        action="store_true",
        help="use a cluster that runs; bad messages in good envelopes are left out then",
    )
    parser.add_argument(
        "--keys",
        action="store_true",
        help="give the cluster keys: bad frames come from who is let in, and strangers knock at each socket",
    )
    arguments = parser.parse_args(argv)
    if arguments.keys and arguments.running:
        parser.error("--keys: of a cluster that is started here; not with --running")
    if arguments.frames < 10:
        parser.error(f"--frames: found {arguments.frames}; allowed: 10 or more")
    seed = random.SystemRandom().getrandbits(32) if arguments.seed is None else arguments.seed
    catch_signals()
    try:
        config = load_config(arguments.config)
        keys = " --keys" if arguments.keys else ""
        notes.print(f"tools/fuzz --config {arguments.config} --frames {arguments.frames} --seed {seed}{keys}")
        if arguments.running:
            wrong = fuzz(config, arguments.frames, seed, {}, pause)
        else:
            wrong = fuzz_own(config, arguments.config, arguments.frames, seed, with_keys=arguments.keys)
    except Interrupted as interruption:
        notes.print(f"tools/fuzz: {interruption}; everything is stopped")
        return interruption.status
    except (EpaxosError, ReplicasError) as error:
        wrong = [str(error)]
    for text in wrong:
        notes.print(f"tools/fuzz: {text}", markup=False, soft_wrap=True)
    return int(bool(wrong))


def fuzz_own(config: Config, file: str, frames: int, seed: int, *, with_keys: bool = False) -> list[str]:
    """Start a cluster, throw, and stop it; what was wrong."""
    check_ports(config)
    with (
        tempfile.TemporaryDirectory(prefix="epaxos-fuzz-") as place,
        lifeline() as line,
        Children() as children,
    ):
        keys = None
        if with_keys:
            file, config, keys = secured(config, file, Path(place))
        last = config.n - 1
        begin = [start(address, file, Path(place), line, children) for address in config.replicas[:last]]
        insiders = learn_insiders(config, listen_as=last, wanted=min(2, last), keys=keys) if last else {}
        replicas = [*begin, start(config.replicas[last], file, Path(place), line, children)]
        wait_until_ready(replicas, keys.token if keys else "")
        try:
            wrong = fuzz(config, frames, seed, insiders, lambda: _look(replicas), keys)
        except EpaxosError as error:
            check_alive(replicas)
            return [str(error)]
        stop(replicas, children)
        return wrong


def secured(config: Config, file: str, place: Path) -> tuple[str, Config, Keys]:
    """The same configuration with keys, as a file in `place`."""
    settings = toml.loads(Path(file).read_text())
    own = place / "epaxos.toml"
    own.write_text(toml.dumps(settings | {"security": {"keys": str(place / "keys")}}))
    config = load_config(str(own))
    init_keys(config, place / "keys")
    return str(own), config, make_keys(config)


def make_keys(config: Config) -> Keys:
    """Put who throws on the list of clients: a name with a password, and one with a token."""
    directory = Path(config.security.keys)
    password = secrets.token_hex(16)
    add_client(directory, "fuzz", Listing("write", (), hash_password(password)))
    return Keys(
        read_key(config.security.key),
        tuple(read_key(str(directory / f"{replica.name}{SUFFIX}")) for replica in config.replicas),
        add_client(directory, "fuzz-pages", Listing("admin"), token=True),
        "fuzz",
        password,
    )


def _look(replicas: Sequence[Replica]) -> None:
    pause()
    check_alive(replicas)


def fuzz(
    config: Config,
    frames: int,
    seed: int,
    insiders: Mapping[Row, Insider],
    look: Callable[[], None],
    keys: Keys | None = None,
) -> list[str]:
    """Throw at a cluster that runs and is online; what was wrong.

    `look` is called between the steps and may raise, to stop it all. With `keys` strangers knock too.
    """
    chance = random.Random(seed)  # noqa: S311 - a test that must be repeatable
    load = Load(config)
    try:
        before = {replica.name: counted_errors(replica, keys) for replica in config.replicas}
        began = time.monotonic()
        thrown = barrage(
            config, frames, chance, insiders, keys=keys, look=lambda: _look_within(LIMIT, began, look)
        )
        seconds = time.monotonic() - began
        verdicts = judge(config, thrown, before, keys)
        strangers = knock(config, keys) if keys else []
        noise = throw_all_noise(config, max(1, frames // NOISE_SHARE), chance, look, keys)
    finally:
        wrong = [f"the load went wrong: {text}" for text in load.end()]
    wrong += [f"a stranger: {text}" for text in strangers]
    look()
    show(thrown, verdicts, noise)
    count = sum(tally.messages for tally in thrown.values())
    notes.print(f"{count:,} bad frames in {seconds:.1f} s beside {load.commands:,} verified commands")
    wrong += [f"{name} did not count as it must" for name, verdict in verdicts.items() if not verdict.fine]
    return wrong + check_service(config, keys)


def _look_within(limit: float, began: float, look: Callable[[], None]) -> None:
    look()
    if time.monotonic() - began > limit:
        raise FuzzError(f"the cluster is too slow: after {limit:.0f} s not all frames are thrown")


def judge(
    config: Config, thrown: Result, before: Mapping[str, Counter[str]], keys: Keys | None = None
) -> dict[str, Verdict]:
    """Compare what each replica has counted with what was thrown at it."""
    verdicts = {}
    for replica in config.replicas:
        tallies = [tally for (name, _), tally in thrown.items() if name == replica.name]
        expected = sum((tally.expected for tally in tallies), Counter[str]())
        counted = difference(before[replica.name], counted_errors(replica, keys))
        verdicts[replica.name] = Verdict(expected, counted)
    return verdicts


def throw_all_noise(
    config: Config, times: int, chance: random.Random, look: Callable[[], None], keys: Keys | None = None
) -> dict[tuple[str, str], int]:
    """Throw what no protocol takes at every socket; how many connections each got."""
    throw_too_large(config, keys)
    noise = {}
    with_token: Callable[[bytes], bytes] = _as_it_is
    with_password = with_token
    if keys is not None:
        with_token = partial(_behind_the_first_line, f"Authorization: Bearer {keys.token}\r\n".encode())
        with_password = f"AUTH {keys.name} {keys.password}\r\n".encode().__add__
    for replica in config.replicas:
        for name, port, samples, let_in in (
            ("client", replica.client_port, NO_ZMQ, _as_it_is),
            ("peer", replica.port, NO_ZMQ, _as_it_is),
            ("http", replica.metrics_port, NO_HTTP, with_token),
            ("redis", replica.redis_port, NO_RESP, with_password),
        ):
            look()
            if port is not None:
                throw_noise(replica.host, port, times, chance, samples, let_in)
            noise[replica.name, name] = times if port is not None else 0
    return noise


def _as_it_is(data: bytes) -> bytes:
    return data


def _behind_the_first_line(more: bytes, data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\r\n" + more, 1)


def check_service(config: Config, keys: Keys | None = None) -> list[str]:
    """Whether every replica answers on every socket, and all hold the same state; what is wrong."""
    wrong = []
    for replica in config.replicas:
        try:
            counted_errors(replica, keys)
            with Client(config=config, replica=replica.name, timeout=10.0, tries=1) as client:
                client.put(b"after-the-fuzz", replica.name.encode())
                if client.get(UNTOUCHED) is not None:
                    wrong.append(f"{replica.name} executed a part of a frame that it refused")
            if replica.redis_port is not None:
                with Talk((replica.host, replica.redis_port)) as talk:
                    if keys is not None:
                        if not talk.ask("GET", "after-the-fuzz").startswith(b"-NOAUTH"):
                            wrong.append(f"{replica.name} lets anybody in at its Redis door")
                        talk.ask("AUTH", keys.name, keys.password)
                    if not talk.ask("GET", "after-the-fuzz").startswith(b"$"):
                        wrong.append(f"{replica.name} does not answer at its Redis door")
        except (ClientError, BarrageError, OSError, Gone) as error:
            wrong.append(f"{replica.name} does not serve any more: {error}")
    if not wrong:
        with Links(config.replicas, config) as links:
            settled = settle(links)
        if not settled.identical:
            wrong.append(f"the replicas hold different states: {dict(settled.digests)}")
    return wrong


def show(thrown: Result, verdicts: Mapping[str, Verdict], noise: Mapping[tuple[str, str], int]) -> None:
    """Print a column a replica: what was thrown at its sockets, and each kind of error as client + peer = counted."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("client + peer = counted", no_wrap=True)
    for name in verdicts:
        table.add_column(name, justify="right", no_wrap=True)
    for socket in ("client", "peer"):
        cells = [f"{thrown[name, socket].messages:,}" for name in verdicts]
        table.add_row(f"bad messages, {socket}", *cells)
    for socket in ("client", "peer", "http", "redis"):
        cells = [f"{noise[name, socket]:,}" for name in verdicts]
        table.add_row(f"noise, {socket}", *cells)
    for kind in sorted({kind for verdict in verdicts.values() for side in verdict for kind in side}):
        table.add_row(kind, *(_sum(thrown, name, kind, verdicts[name]) for name in verdicts))
    console.print(table)


def _sum(thrown: Result, name: str, kind: str, verdict: Verdict) -> str:
    sides = [thrown[name, socket].expected[kind] for socket in ("client", "peer")]
    sign = "=" if sum(sides) == verdict.counted[kind] else "[bold red]≠[/]"
    return f"{sides[0]} + {sides[1]} {sign} {verdict.counted[kind]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
