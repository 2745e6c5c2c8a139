"""A cluster in which one connection dies alone, for real: run by itself as root of new namespaces.

    unshare --user --map-root-user --net --mount python dead_connection.py DIRECTORY

Of three replicas two run, so that each needs the other. From some moment on the system drops what one of them sends on
the busier of its two connections to the other, as a firewall does that has forgotten one of its flows, while
heartbeats pass on the other one. Prints how long the write took that met this; some more follow it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from live_cluster import LiveCluster
from namespaces import loopback_up

SECONDS: Final = 40.0
AFTERWARDS: Final = 20


def main(directory: Path) -> None:
    loopback_up()
    # A rule that drops must come before the one that finds the addresses of this machine.
    run("ip", "rule", "add", "pref", "10", "lookup", "local")
    run("ip", "rule", "del", "pref", "0")
    cluster = LiveCluster(directory / "cluster", 3)
    try:
        cluster.start().wait_until_ready()
        cluster.stop("charlie")
        with cluster.client("alpha") as client:
            for _ in range(100):
                client.put(b"key", b"value")
            port = str(cluster.config.replica("bravo").port)
            drop = ("ipproto", "tcp", "sport", str(busiest(port)), "dport", port, "blackhole")
            run("ip", "rule", "add", "pref", "5", *drop)
            began = time.monotonic()
            client.put(b"key", b"value", timeout=SECONDS)
            slowest = time.monotonic() - began
            for _ in range(AFTERWARDS):
                client.put(b"key", b"value", timeout=SECONDS)
    finally:
        cluster.close()
    sys.stdout.write(json.dumps({"slowest": slowest}))


def busiest(port: str) -> int:
    """The local port of the connection to a port on which most was sent."""
    shown = run("ss", "--tcp", "--info", "--numeric", "--no-header", "--oneline", "dport", "=", f":{port}")
    sent = {
        int(found[1]): int(found[2]) for found in re.finditer(r":(\d+) +\S+:\d+ .*?bytes_sent:(\d+)", shown)
    }
    assert len(sent) == 2, shown
    return max(sent, key=sent.__getitem__)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
