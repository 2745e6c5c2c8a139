"""The documentation, the dashboard and the scrape configuration speak of the metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from epaxos.metrics import COMMIT_PATHS, DIRECTIONS, DROP_REASONS, ERROR_KINDS
from epaxos.statemachine.operations import Operation

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((ROOT / "conf" / "grafana-dashboard.json").read_text())
SCRAPING = (ROOT / "conf" / "prometheus.yml").read_text()

HAS_PROC = Path("/proc/self/stat").exists()
TARGET_LABELS = {"job", "instance", "replica"}
"""What the scrape configuration adds to every series."""


class Family(NamedTuple):
    type: str
    labels: frozenset[str]


@pytest.fixture
def families(registry: CollectorRegistry) -> dict[str, Family]:
    """Every family by its name and type in the text format."""
    suffixes = {"counter": "_total", "info": "_info"}
    return {
        family.name + suffixes.get(family.type, ""): Family(
            "gauge" if family.type == "info" else family.type,
            frozenset(label for sample in family.samples for label in sample.labels) - {"le"},
        )
        for family in registry.collect()
    }


@pytest.fixture
def series(families: dict[str, Family]) -> dict[str, frozenset[str]]:
    """The labels of everything that an expression may name."""
    found = {}
    for name, family in families.items():
        if family.type == "histogram":
            found[f"{name}_bucket"] = family.labels | {"le"}
            found[f"{name}_sum"] = found[f"{name}_count"] = family.labels
        else:
            found[name] = family.labels
    return found


def table_rows(heading: str) -> Iterator[list[str]]:
    """The cells of every row of the tables whose heading begins with the cell given."""
    heading_seen: str | None = None
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            heading_seen = None
        elif heading_seen is None:
            heading_seen = cells[0]
        elif heading_seen == heading and not line.startswith("|-"):
            yield cells


def test_documented_are_exactly_the_metrics_there_are(families: dict[str, Family]) -> None:
    documented = {}
    for row in table_rows("metric"):
        name, kind, labels, meaning, alert = row
        assert name.strip("`") not in documented
        assert meaning
        assert alert
        documented[name.strip("`")] = Family(kind, frozenset(re.findall(r"`(\w+)`", labels)))
    if not HAS_PROC:
        documented = {name: row for name, row in documented.items() if not name.startswith("process_")}
    assert documented == families


def test_documented_are_exactly_the_error_kinds_there_are() -> None:
    kinds = [row[0].strip("`") for row in table_rows("`kind`")]
    assert kinds == list(ERROR_KINDS)
    assert all(len(row) == 3 and all(row) for row in table_rows("`kind`"))


def test_documented_are_exactly_the_labels_there_are(families: dict[str, Family]) -> None:
    documented = {label for row in table_rows("label") for label in re.findall(r"`(\w+)`", row[0])}
    assert documented == {label for family in families.values() for label in family.labels}


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("path", list(COMMIT_PATHS)),
        ("direction", list(DIRECTIONS)),
        ("reason", list(DROP_REASONS)),
        ("operation", [operation.name.lower() for operation in Operation]),
    ],
)
def test_documented_are_exactly_the_values_of_a_label(label: str, values: list[str]) -> None:
    (text,) = [row[1] for row in table_rows("label") if row[0] == f"`{label}`"]
    assert re.findall(r"`(\w+)`", text) == values


def test_the_text_names_nothing_else(families: dict[str, Family], series: dict[str, frozenset[str]]) -> None:
    names = set(re.findall(r"\b(?:epaxos|process|python)_\w+", DOCUMENT)) - {"process_"}
    if not HAS_PROC:
        names = {name for name in names if not name.startswith("process_")}
    assert names <= families.keys() | series.keys()


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DASHBOARD["panels"]
    return found


def expressions() -> list[str]:
    queries = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    variables = [v["definition"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    return queries + variables


@pytest.mark.parametrize("expression", expressions())
def test_the_dashboard_shows_metrics_and_labels_that_exist(
    expression: str, series: dict[str, frozenset[str]]
) -> None:
    names = set(re.findall(r"\b(?:epaxos|process|python)_\w+", expression))
    if not HAS_PROC:
        names = {name for name in names if not name.startswith("process_")}
    assert names or not HAS_PROC
    assert names <= series.keys()
    selected = set(re.findall(r"(\w+)=~?\"", expression))
    grouped = {
        label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in group.split(", ")
    }
    for name in names:
        assert selected | grouped <= series[name] | TARGET_LABELS


def test_the_dashboard_takes_rates_of_counters_only(families: dict[str, Family]) -> None:
    counters = {name for name, family in families.items() if family.type == "counter"}
    for expression in expressions():
        rated = set(re.findall(r"rate\((\w+)", expression))
        cumulative = {name for name in rated if name.endswith(("_bucket", "_sum", "_count"))}
        assert rated - cumulative <= counters | {"process_cpu_seconds_total"}
        assert not counters & (set(re.findall(r"\w+", expression)) - rated)


@pytest.mark.parametrize(
    "metric",
    [
        *("epaxos_proposals_total", "epaxos_commit_latency_seconds_bucket", "epaxos_commits_total"),
        *("epaxos_execution_latency_seconds_bucket", "epaxos_pending_instances", "epaxos_mailbox_depth"),
        *("epaxos_mailbox_wait_seconds_bucket", "epaxos_peer_up", "epaxos_errors_total"),
        *("epaxos_storage_failed", "epaxos_persist_seconds_bucket", "epaxos_log_instances"),
        *("epaxos_quorum_heard", "epaxos_replicas_heard"),
    ],
)
def test_the_dashboard_shows_what_matters_most(metric: str) -> None:
    assert any(metric in expression for expression in expressions())


def test_the_legends_name_labels_that_are_left(series: dict[str, frozenset[str]]) -> None:
    """A label that the expression summed away would show as an empty legend."""
    for panel in panels():
        for target in panel.get("targets", ()):
            grouped = re.match(r"(?:histogram_quantile\([\d.]+, )?(?:sum|avg) by \(([^)]*)\)", target["expr"])
            names = re.findall(r"\b(?:epaxos|process)_\w+", target["expr"])
            left = (
                set(grouped[1].split(", "))
                if grouped
                else TARGET_LABELS.union(*(series.get(name, ()) for name in names))
            )
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left


def test_panels_have_places_and_numbers_of_their_own() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    for one, other in combinations([panel["gridPos"] for panel in panels()], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_prometheus_scrapes_the_three_local_replicas() -> None:
    found = re.findall(r'targets: \["127\.0\.0\.1:(\d+)"\]\n +labels:\n +replica: (\w+)', SCRAPING)
    assert found == [("9264", "alpha"), ("9265", "bravo"), ("9266", "charlie")]


def test_dashboard_and_documents_agree_with_the_scraping_on_the_job() -> None:
    (job,) = re.findall(r"job_name: (\w+)", SCRAPING)
    for text in (*expressions(), DOCUMENT):
        assert set(re.findall(r'job="(\w+)"', text)) == {job}
