"""The systems, each set so that a command is on a majority before it is answered: on their disks, if it is durable."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.cluster import ROOT, BenchmarkError
from benchmarks.peers.peer import HOST, LONGEST, Load, Peer
from benchmarks.study import Sample

KEYS: Final = 10_000
ETCD: Final = "apt install etcd-server"
REDIS: Final = "apt install redis-server redis-tools"
CLIENTS: Final = "pip install -e '.[peers]'"


class Etcd(Peer):
    """Raft in Go."""

    name = "etcd, 3 members"
    settings = "as it comes: every entry is synced by a majority"
    client = "aetcd, a gRPC channel a member"
    programs: ClassVar = {"etcd": ETCD}
    packages: ClassVar = {"aetcd": CLIENTS}

    def commands(self, place: Path) -> list[list[str]]:
        """One a member."""
        cluster = ",".join(f"m{number}=http://{HOST}:{port}" for number, port in enumerate(self.inner))
        members = zip(self.ports, self.inner, strict=True)
        return [
            [
                *("etcd", "--name", f"m{number}", "--data-dir", str(place / f"m{number}")),
                *("--listen-client-urls", f"http://{HOST}:{port}"),
                *("--advertise-client-urls", f"http://{HOST}:{port}"),
                *("--listen-peer-urls", f"http://{HOST}:{inner}"),
                *("--initial-advertise-peer-urls", f"http://{HOST}:{inner}", "--initial-cluster", cluster),
            ]
            for number, (port, inner) in enumerate(members)
        ]

    def load(self, load: Load) -> Sample:
        """By its client for asyncio."""
        return self.drive("etcd", load)


class Redis(Peer):
    """One server; nothing is replicated."""

    name = "Redis, 1 server, syncs always"
    settings = "appendonly yes, appendfsync always; not replicated"
    client = "redis-benchmark, in C"
    programs: ClassVar = {"redis-server": REDIS, "redis-benchmark": REDIS}
    sync: tuple[str, ...] = ("--appendonly", "yes", "--appendfsync", "always")

    def commands(self, place: Path) -> list[list[str]]:
        """The server's."""
        return [self._server(self.ports[0], place)]

    def _server(self, port: int, place: Path) -> list[str]:
        directory = place / str(port)
        directory.mkdir()
        named = ["redis-server", "--port", str(port), "--dir", str(directory), "--save", "", "--bind", HOST]
        return [*named, *self.sync]

    def load(self, load: Load) -> Sample:
        """By redis-benchmark, which counts commands instead of seconds."""
        rate = 2_000 if load.clients == 1 else 100_000 if load.window > 1 else 20_000
        number = round(load.seconds * rate)
        command = [
            *("redis-benchmark", "-p", str(self.ports[0]), "-t", "set", "-d", "8", "-r", str(KEYS)),
            *("-n", str(number), "-c", str(load.clients), "-P", str(load.window), "--csv"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        if not rows:
            raise BenchmarkError(f"redis-benchmark: {done.stderr.strip()[-300:]}")
        row = rows[-1]
        return {
            "operations": float(number),
            "throughput": float(row["rps"]),
            "p50": float(row["p50_latency_ms"]),
            "p99": float(row["p99_latency_ms"]),
        }


class RedisReplicated(Redis):
    """A primary and two replicas; each write is followed by WAIT."""

    name = "Redis, 2 replicas and WAIT"
    settings = "appendfsync always on all three; every SET, or pipeline of them, is followed by WAIT 1 1000"
    client = "redis-py for asyncio with hiredis, a connection a client"
    packages: ClassVar = {"redis": CLIENTS, "hiredis": CLIENTS}

    def commands(self, place: Path) -> list[list[str]]:
        """The primary's and its replicas'."""
        primary, *others = self.ports
        replicas = [[*self._server(port, place), "--replicaof", HOST, str(primary)] for port in others]
        return [self._server(primary, place), *replicas]

    def load(self, load: Load) -> Sample:
        """By its client for asyncio: redis-benchmark cannot follow a command by WAIT."""
        return self.drive("redis", load)


class RedisMemory(RedisReplicated):
    """The same without a log."""

    name = "Redis, no log, 2 replicas and WAIT"
    settings = "no AOF; every SET, or pipeline of them, is followed by WAIT 1 1000"
    durable = False
    sync = ("--appendonly", "no")


class ZooKeeper(Peer):
    """Zab in Java."""

    name = "ZooKeeper, 3 servers"
    settings = "as it comes: forceSync, every transaction is synced by a majority; setData on 1,000 nodes"
    client = "kazoo, at most 9 sessions that share the commands under way"
    programs: ClassVar = {"java": "apt install zookeeper"}
    packages: ClassVar = {"kazoo": CLIENTS}
    JARS = Path("/usr/share/java")

    @classmethod
    def missing(cls) -> str | None:
        """Java alone is not enough."""
        there = (cls.JARS / "zookeeper.jar").exists()
        return super().missing() or (
            None if there else f"{cls.name} is left out; to have it: apt install zookeeper"
        )

    def commands(self, place: Path) -> list[list[str]]:
        """One a server, without its console and its page."""
        servers = [f"server.{number}={HOST}:{port}:{port + 10}" for number, port in enumerate(self.inner, 1)]
        found = []
        for number, port in enumerate(self.ports, 1):
            data = place / str(number)
            data.mkdir()
            (data / "myid").write_text(f"{number}\n")
            lines = [f"dataDir={data}", f"clientPort={port}", "tickTime=2000", "initLimit=10", "syncLimit=5"]
            lines += ["admin.enableServer=false", "maxClientCnxns=0", *servers]
            (data / "zoo.cfg").write_text("\n".join(lines) + "\n")
            jars = ":".join(str(jar) for jar in sorted(self.JARS.glob("*.jar")))
            main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
            found.append(["java", "-cp", jars, "-Xmx512m", main, str(data / "zoo.cfg")])
        return found

    def load(self, load: Load) -> Sample:
        """By its client with threads."""
        return self.drive("zookeeper", load)


class PySyncObj(Peer):
    """Raft in Python, a library: the commands are made in the processes that are replicated."""

    name = "PySyncObj, 3 processes"
    settings = "as it comes, without a journal: it would not be synced, so nothing of it is durable"
    client = "the library itself, in the replicated processes, whose CPU includes it"
    durable = False
    packages: ClassVar = {"pysyncobj": CLIENTS}

    def commands(self, place: Path) -> list[list[str]]:
        """One a process; each has a port that takes the order to begin a load."""
        del place  # nothing is written
        places = ",".join(f"{HOST}:{port}" for port in self.inner)
        program = [sys.executable, str(ROOT / "tools" / "lib" / "run.py"), "benchmarks.peers.node"]
        return [[*program, str(port), str(number), places] for number, port in enumerate(self.ports)]

    def load(self, load: Load) -> Sample:
        """The processes share the commands under way."""
        return self.drive("pysyncobj", load)


class Nats(Peer):
    """JetStream: Raft in Go, by the key-value store that is made of it."""

    name = "NATS JetStream KV, 3 servers"
    settings = (
        "a bucket with 3 replicas and memory storage (this version syncs files every two minutes, not always)"
    )
    client = "nats-py, 64 connections at most"
    durable = False
    programs: ClassVar = {"nats-server": "apt install nats-server"}
    packages: ClassVar = {"nats": CLIENTS}

    def commands(self, place: Path) -> list[list[str]]:
        """One a server."""
        routes = ",".join(f"nats://{HOST}:{port}" for port in self.inner)
        found = []
        for number, (port, inner) in enumerate(zip(self.ports, self.inner, strict=True)):
            named = ["nats-server", "-a", HOST, "-p", str(port), "-n", f"s{number}", "-js"]
            kept = ["-sd", str(place / str(number)), "--cluster_name", "peers"]
            found.append([*named, *kept, "--cluster", f"nats://{HOST}:{inner}", "--routes", routes])
        return found

    def load(self, load: Load) -> Sample:
        """By its client for asyncio."""
        return self.drive("nats", load)


ALL: Final[tuple[type[Peer], ...]] = (
    Etcd,
    Redis,
    RedisReplicated,
    ZooKeeper,
    RedisMemory,
    PySyncObj,
    Nats,
)
