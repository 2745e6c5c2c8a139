"""Gives random commands to a durable cluster, by its Redis door, and to redis-server, and compares all replies.

Starts both on free ports of this machine and ends them. Replies and the final state must be the same, byte by byte, but
for the time that is left of keys.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from differential.compare import Difference, Side, compare, recorded
from differential.drawing import Drawing
from differential.talk import Talk
from epaxos.errors import EpaxosError
from epaxos.testing import LocalCluster

SERVER: Final = shutil.which("redis-server")
_PATIENCE: Final = 10.0  # seconds
_SHOWN: Final = 20


@contextmanager
def redis_server(*options: str) -> Iterator[tuple[str, int]]:
    """A redis-server of one database, whose values are as long as ours at most, and where it is."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert SERVER is not None
    settings = {"--port": str(port), "--save": "", "--databases": "1", "--proto-max-bulk-len": "1mb"}
    words = [word for setting in settings.items() for word in setting]
    with subprocess.Popen([SERVER, *words, *options], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield "127.0.0.1", port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    until = time.monotonic() + _PATIENCE
    for _ in count():
        try:
            with Talk(("127.0.0.1", port)) as talk:
                talk.ask("PING")
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def main(argv: Sequence[str]) -> int:
    """Run it; 0 if nothing was different."""
    parser = argparse.ArgumentParser(prog="tools/redis-differential", description=__doc__, allow_abbrev=False)
    parser.add_argument("--commands", type=int, default=50_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random commands (default: %(default)s)")
    parser.add_argument("--record", type=Path, help="record what redis-server replies into a file instead")
    options = parser.parse_args(argv)
    if SERVER is None:
        print(
            "tools/redis-differential: no redis-server here; Debian has it in redis-server", file=sys.stderr
        )
        return 2
    if options.record is not None:
        return _record(options.record, options.seed, options.commands)
    return _compare(options.seed, options.commands)


def _record(path: Path, seed: int, most: int) -> int:
    with redis_server() as address, closing(Side(address)) as server:
        path.write_text("\n".join(recorded(Drawing(seed), server, most)) + "\n")
    print(f"recorded {path}")
    return 0


def _compare(seed: int, most: int) -> int:
    found: list[Difference] = []
    began = time.monotonic()
    taken = 0
    with redis_server() as address, LocalCluster(durable=True, redis=True) as cluster:
        (one, *_) = cluster.config.replicas
        assert one.redis_port is not None
        with closing(Side(("127.0.0.1", one.redis_port))) as ours, closing(Side(address)) as theirs:
            for different in compare(Drawing(seed), ours, theirs, most):
                if isinstance(different, Difference):
                    found.append(different)
                    if len(found) <= _SHOWN:
                        print(different)
                else:
                    taken = different
    print(
        f"{taken:,} commands of seed {seed} in {time.monotonic() - began:.0f} s: {len(found)} replies differ from "
        "those of redis-server, state included"
    )
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except EpaxosError as error:
        print(f"tools/redis-differential: {error}", file=sys.stderr)
        sys.exit(1)
