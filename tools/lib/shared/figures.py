"""The main figures of each replica, read from its Prometheus page, as one table."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from rich import box
from rich.table import Table

TIMEOUT = 5.0  # seconds for a replica to answer


class Figures:
    """One scrape of one replica."""

    def __init__(self, text: str) -> None:
        families: list[Metric] = list(text_string_to_metric_families(text))
        self._samples = [sample for family in families for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric over all its samples with these labels; 0 if there is none."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def mean(self, name: str) -> float:
        """The mean of a histogram's observations; 0 if there was none."""
        count = self.total(f"{name}_count")
        return self.total(f"{name}_sum") / count if count else 0.0

    def buckets(self, name: str) -> list[tuple[float, float]]:
        """The bounds of a histogram without labels, and how many observations are below each."""
        found = (sample for sample in self._samples if sample.name == f"{name}_bucket")
        return [(float(sample.labels["le"]), sample.value) for sample in found]


def fetch(address: str, token: str = "") -> str:
    """A page of a replica; `token` is what one with keys asks for.

    Raises:
        OSError: it did not answer, or not with success.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://{address}", headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        text: str = answer.read().decode()
        return text


def fast_share(figures: Figures) -> str:
    """The share of an own instance's commits that took the fast path."""
    commits = figures.total("epaxos_commits_total")
    return f"{figures.total('epaxos_commits_total', path='fast') / commits:.1%}" if commits else "-"


def sent(figures: Figures, name: str) -> float:
    """The part of a metric of the traffic between replicas that went out."""
    return figures.total(name, direction="sent")


def milliseconds(figures: Figures, name: str) -> str:
    """The mean of a histogram of seconds."""
    return f"{figures.mean(name) * 1000:.2f} ms"


ROWS: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("commands proposed", lambda figures: f"{figures.total('epaxos_proposals_total'):,.0f}"),
    ("commands executed", lambda figures: f"{figures.total('epaxos_executed_commands_total'):,.0f}"),
    ("instances committed", lambda figures: f"{figures.total('epaxos_commits_total'):,.0f}"),
    ("on the fast path", fast_share),
    ("commands per instance, mean", lambda figures: f"{figures.mean('epaxos_batch_size_commands'):,.1f}"),
    ("time to commit, mean", lambda figures: milliseconds(figures, "epaxos_commit_latency_seconds")),
    ("time to execute, mean", lambda figures: milliseconds(figures, "epaxos_execution_latency_seconds")),
    ("messages sent to peers", lambda figures: f"{sent(figures, 'epaxos_messages_total'):,.0f}"),
    ("bytes sent to peers", lambda figures: f"{sent(figures, 'epaxos_message_bytes_total') / 1e6:,.1f} MB"),
    ("peers up", lambda figures: f"{figures.total('epaxos_peer_up'):.0f}"),
    ("errors", lambda figures: f"{figures.total('epaxos_errors_total'):,.0f}"),
    ("processor time", lambda figures: f"{figures.total('process_cpu_seconds_total'):.1f} s"),
    ("memory", lambda figures: f"{figures.total('process_resident_memory_bytes') / 1e6:,.0f} MB"),
)


def table(by_name: Mapping[str, Figures]) -> Table:
    """A column a replica, a row a figure."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown.add_column("from /metrics", no_wrap=True)
    for name in by_name:
        shown.add_column(name, justify="right", no_wrap=True)
    for label, read in ROWS:
        shown.add_row(label, *map(read, by_name.values()))
    return shown
