"""The demo's table says what the metrics pages say."""

from __future__ import annotations

import pytest
from rich.console import Console

from shared.figures import ROWS, Figures, table

PAGE = """\
# TYPE epaxos_commits_total counter
epaxos_commits_total{path="fast"} 30
epaxos_commits_total{path="slow"} 10
# TYPE epaxos_batch_size_commands histogram
epaxos_batch_size_commands_bucket{le="+Inf"} 4
epaxos_batch_size_commands_count 4
epaxos_batch_size_commands_sum 10
# TYPE epaxos_message_bytes_total counter
epaxos_message_bytes_total{direction="sent",peer="bravo",type="Commit"} 1500000
epaxos_message_bytes_total{direction="received",peer="bravo",type="Commit"} 7
"""


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("instances committed", "40"),
        ("on the fast path", "75.0%"),
        ("commands per instance, mean", "2.5"),
        ("bytes sent to peers", "1.5 MB"),
    ],
)
def test_figure(label: str, value: str) -> None:
    assert dict(ROWS)[label](Figures(PAGE)) == value


@pytest.mark.parametrize(("label", "value"), [("on the fast path", "-"), ("time to commit, mean", "0.00 ms")])
def test_figure_of_an_idle_replica(label: str, value: str) -> None:
    assert dict(ROWS)[label](Figures("")) == value


def test_table_has_a_column_for_each_replica() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table({"alpha": Figures(PAGE), "bravo": Figures("")}))
    [row] = [line for line in capture.get().splitlines() if "on the fast path" in line]
    assert row.split() == ["on", "the", "fast", "path", "75.0%", "-"]


def test_the_buckets_of_a_histogram() -> None:
    assert Figures(PAGE).buckets("epaxos_batch_size_commands") == [(float("inf"), 4.0)]
