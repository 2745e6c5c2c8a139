"""A cluster whose name server never answers, for real: run by itself as root of new namespaces.

    unshare --user --map-root-user --net --mount python silent_name_server.py DIRECTORY

glibc asks 127.0.0.53, where a socket takes every question and answers none. The replicas' names stand in the hosts file
until the cluster has formed; then charlie dies, and his name is forgotten. Prints the slowest of the writes of
a client during the next seconds, how many there were, and how many questions were asked.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import toml

from epaxos.client.blocking import Client
from epaxos.config import load_config
from live_cluster import LiveCluster
from namespaces import loopback_up

SECONDS: Final = 4.0
NAME_SERVER: Final = "127.0.0.53"


def main(directory: Path) -> None:
    loopback_up()
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 localhost alpha.test bravo.test charlie.test\n")
    (directory / "resolv.conf").write_text(f"nameserver {NAME_SERVER}\n")
    for name in ("hosts", "resolv.conf"):
        subprocess.run(["mount", "--bind", directory / name, f"/etc/{name}"], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((NAME_SERVER, 53))
        server.setblocking(False)
        cluster = LiveCluster(directory / "cluster", 3, {"timeout": "400ms", "beacon": "50ms"})
        try:
            settings = toml.loads(cluster.path.read_text())
            for replica in settings["replicas"]:
                replica["host"] = f"{replica['name']}.test"
            cluster.path.write_text(toml.dumps(settings))
            cluster.config = load_config(str(cluster.path), environ={})
            cluster.start().wait_until_ready()
            cluster.kill("charlie")
            hosts.write_text("127.0.0.1 localhost\n")
            slowest, writes = write(cluster)
        finally:
            cluster.close()
        sys.stdout.write(json.dumps({"slowest": slowest, "writes": writes, "questions": questions(server)}))


def write(cluster: LiveCluster) -> tuple[float, int]:
    """By way of bravo; the client knows charlie and alpha by their names, which it cannot find any more either."""
    alpha, bravo, charlie = cluster.config.replicas
    endpoints = [f"charlie.test:{charlie.client_port}", f"127.0.0.1:{bravo.client_port}"]
    slowest, writes = 0.0, 0
    stop = time.monotonic() + SECONDS
    with Client([*endpoints, f"alpha.test:{alpha.client_port}"], config=cluster.config) as client:
        while (began := time.monotonic()) < stop:
            client.put(b"key", b"value", timeout=SECONDS)
            slowest = max(slowest, time.monotonic() - began)
            writes += 1
            time.sleep(0.02)
    return slowest, writes


def questions(server: socket.socket) -> int:
    """How many the name server was asked."""
    asked = 0
    try:
        while server.recv(4096):
            asked += 1
    except BlockingIOError:
        return asked
    raise AssertionError("an empty question")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
