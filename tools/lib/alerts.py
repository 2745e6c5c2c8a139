"""Breaks a real cluster under a real Prometheus, and sees alerts of `conf/alerts.yml` fire and clear again.

Prometheus, which must be installed, reads these rules with all their durations divided, so that a minute is some
seconds; their expressions are the same. Ends with status 1 if an expression cannot be evaluated or names a metric that
the replicas do not have, or if an alert does not fire or does not clear.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import zmq
from rich.console import Console

from epaxos.testing import LocalCluster
from epaxos.testing.processes import Ports
from shared.processes import Children, Interrupted, catch_signals, pause

ROOT: Final = Path(__file__).resolve().parents[2]
FASTER: Final = 30
"""What durations are divided by: half a minute is a second, which is how often Prometheus looks here."""
PATIENCE: Final = 60.0
"""Seconds for an alert to fire or to clear; all it takes is some evaluations."""

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class AlertsError(Exception):
    """The alerts are not as they should be, or they could not be tried; the text says why."""


class Staged(NamedTuple):
    """An outage: what to do to the cluster, which alerts of which replicas that fires, and what mends it."""

    name: str
    begin: Callable[[LocalCluster], None]
    fires: Sequence[tuple[str, str]]
    end: Callable[[LocalCluster], None]


def main(argv: Sequence[str]) -> int:
    """Try the alerts; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tools/alerts",
        description="Break a real cluster under a real Prometheus, and see alerts fire and clear.",
    )
    parser.add_argument(
        "--first", type=int, default=len(OUTAGES), metavar="N", help="stage only the first N outages"
    )
    first = parser.parse_args(argv).first
    catch_signals()
    out = Console(highlight=False, soft_wrap=True)
    try:
        run(OUTAGES[:first], out)
    except Interrupted as interruption:
        print(f"tools/alerts: {interruption}", file=sys.stderr)
        return interruption.status
    except AlertsError as error:
        print(f"tools/alerts: {error}", file=sys.stderr)
        return 1
    return 0


def run(outages: Sequence[Staged], out: Console) -> None:
    """Stage outages, one after the other.

    Raises:
        AlertsError: Prometheus is not installed, or an alert is not as it should be.
        Interrupted: by a signal.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise AlertsError("needs the program `prometheus` (Debian: apt-get install prometheus)")
    with (
        tempfile.TemporaryDirectory(prefix="epaxos-alerts-") as name,
        Children() as children,
        LocalCluster(durable=True) as cluster,
    ):
        watch = Prometheus(program, Path(name), cluster, children)
        out.print(f"{watch.ready()} alerts, every expression evaluated, every metric found")
        for staged in outages:
            began = time.monotonic()
            staged.begin(cluster)
            watch.wait(staged.fires, fire=True)
            fired = time.monotonic()
            staged.end(cluster)
            watch.wait(staged.fires, fire=False)
            names = ", ".join(sorted({alert for alert, _ in staged.fires}))
            out.print(
                f"{staged.name}: {names}: fired after {fired - began:.1f} s,"
                f" clear {time.monotonic() - fired:.1f} s after the end"
            )


class Prometheus:
    """A Prometheus that watches a cluster every second, with the rules of `conf/alerts.yml` at a quicker pace."""

    def __init__(self, program: str, directory: Path, cluster: LocalCluster, children: Children) -> None:
        self._log = directory / "prometheus.log"
        rules = (ROOT / "conf" / "alerts.yml").read_text()
        (directory / "alerts.yml").write_text(_faster(rules))
        self._names = set(re.findall(r"\b(?:epaxos|process)_\w+|\bup\b", _expressions(rules)))
        targets = [
            {"targets": [f"{one.host}:{one.metrics_port}"], "labels": {"replica": one.name}}
            for one in cluster.config.replicas
        ]
        settings = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [{"job_name": "epaxos", "static_configs": targets}],
        }
        (directory / "prometheus.yml").write_text(json.dumps(settings))
        ports = Ports(1)
        self._address = f"127.0.0.1:{ports.numbers[0]}"
        ports.close()
        command = [
            program,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={self._address}",
        ]
        with self._log.open("wb") as output:
            self._process = children.start(command, output=output, cwd=directory)

    def ready(self) -> int:
        """Wait until every alert has been evaluated and every metric that they name is there; how many alerts.

        Raises:
            AlertsError: they are not, in time, or Prometheus ended.
        """
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None:
            rules = [rule for group in self._groups() for rule in group["rules"]]
            wrong = [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] == "err"]
            if wrong:
                raise AlertsError("cannot be evaluated: " + "; ".join(wrong))
            missing = sorted(name for name in self._names if not self._value(name))
            if rules and not missing and all(rule["health"] == "ok" for rule in rules):
                return len(rules)
            if time.monotonic() > deadline:
                raise AlertsError(f"no replica has these metrics: {', '.join(missing)}")
            pause(0.2)
        raise AlertsError(f"prometheus ended: {self._log.read_text(errors='replace')[-2000:]}")

    def wait(self, alerts: Sequence[tuple[str, str]], *, fire: bool) -> None:
        """Wait until all of these alerts, each with its replica or none, fire, or none of them does.

        Raises:
            AlertsError: it takes too long.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            firing = self._firing()
            left = [alert for alert in alerts if (alert in firing) != fire]
            if not left:
                return
            if time.monotonic() > deadline:
                wanted = "fire" if fire else "clear"
                raise AlertsError(
                    f"after {PATIENCE:.0f} s does not {wanted}: {left}; firing: {sorted(firing)}"
                )
            pause(0.2)

    def _firing(self) -> set[tuple[str, str]]:
        return {
            (alert["labels"]["alertname"], alert["labels"].get("replica", ""))
            for alert in self._ask("alerts").get("alerts", ())
            if alert["state"] == "firing"
        }

    def _groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self._ask("rules").get("groups", [])
        return groups

    def _value(self, expression: str) -> list[Any]:
        found: list[Any] = self._ask(f"query?query={urllib.parse.quote(expression)}").get("result", [])
        return found

    def _ask(self, what: str) -> dict[str, Any]:
        """An answer of its API; an empty one while it does not listen yet."""
        try:
            with urllib.request.urlopen(f"http://{self._address}/api/v1/{what}", timeout=5) as page:
                data: dict[str, Any] = json.load(page)["data"]
        except OSError:
            return {}
        return data


def _expressions(rules: str) -> str:
    """The rules without what people read, and without strings."""
    kept = [
        line for line in rules.splitlines() if not re.search(r"^ *(?:#|summary|runbook|- name|- alert)", line)
    ]
    return re.sub(r'"[^"]*"', "", "\n".join(kept))


def _faster(rules: str) -> str:
    """The rules with each duration, of `for:` and of ranges, divided; at least three seconds for a range."""

    def divided(match: re.Match[str]) -> str:
        before, number, unit = match.groups()
        least = 1 if before.startswith("for") else 3
        return f"{before}{max(least, int(number) * _SECONDS[unit] // FASTER)}s"

    return re.sub(r"(for: |\[)(\d+)([smhd])\b", divided, rules)


def _kill(*names: str) -> Callable[[LocalCluster], None]:
    return lambda cluster: cluster.kill(*names)


def _start(*names: str) -> Callable[[LocalCluster], None]:
    def start(cluster: LocalCluster) -> None:
        cluster.start(*names).wait_until_ready()

    return start


def _shout(cluster: LocalCluster) -> None:
    """Something that is no client talks to alpha."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.connect(cluster.config.replica("alpha").client_endpoint)
        stranger.send(b"GET / HTTP/1.1")
        stranger.close(linger=-1)


def _lose_directory(cluster: LocalCluster) -> None:
    place = cluster.config.storage.directory_of("charlie")
    place.rename(place.with_name("elsewhere"))


def _give_back_directory(cluster: LocalCluster) -> None:
    place = cluster.config.storage.directory_of("charlie")
    place.with_name("elsewhere").rename(place)
    cluster.restart("charlie")


OUTAGES: Final = (
    Staged("bravo is killed", _kill("bravo"), [("EpaxosReplicaDown", "bravo")], _start("bravo")),
    Staged(
        "bravo and charlie are killed",
        _kill("bravo", "charlie"),
        [
            ("EpaxosClusterStands", ""),
            ("EpaxosNoQuorum", "alpha"),
            ("EpaxosReplicaDown", "bravo"),
            ("EpaxosReplicaDown", "charlie"),
        ],
        _start("bravo", "charlie"),
    ),
    Staged("a stranger talks to alpha", _shout, [("EpaxosBadInput", "alpha")], lambda _: None),
    Staged(
        "charlie's directory is moved away",
        _lose_directory,
        [("EpaxosDiskFailed", "charlie")],
        _give_back_directory,
    ),
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
