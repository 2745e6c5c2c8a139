"""The documentation, the dashboard, the alerts and the scrape configuration speak of the metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql
import pytest
import yaml
from prometheus_client import CollectorRegistry

from epaxos.metrics import COMMIT_PATHS, DIRECTIONS, DROP_REASONS, ERROR_KINDS
from epaxos.statemachine.operations import Operation

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((ROOT / "conf" / "grafana-dashboard.json").read_text())
SCRAPING = (ROOT / "conf" / "prometheus.yml").read_text()
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "conf" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
STAGED = [
    staged
    for name in ("alerts.yml", "alerts-slow.yml")
    for staged in yaml.safe_load((ROOT / "tests" / "support" / name).read_text())["tests"]
]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PROMTOOL = shutil.which("promtool")

NAMING = ("conf", "docs", "tools", "benchmarks", "README.md", "CHANGELOG.md", "tests/support")
"""Where metrics are named."""
OTHERS = {"epaxos_cluster"}
"""Other things whose name begins like that of a metric: the fixture."""

HAS_PROC = Path("/proc/self/stat").exists()
TARGET_LABELS = {"job", "instance", "replica"}
"""What the scrape configuration adds to every series."""


class Family(NamedTuple):
    type: str
    labels: frozenset[str]


NO_FAMILY = Family("", frozenset())


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
    """Of the dashboard."""
    queries = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    variables = [v["definition"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    return queries + variables


def all_expressions() -> list[str]:
    """Of the dashboard, the alerts and the document."""
    cells = [row[4] for row in table_rows("metric")]
    quoted = [text for cell in cells for text in re.findall(r"`([^`]*\w\([^`]*|[^`]* [=><!]=? [^`]*)`", cell)]
    return [
        *expressions(),
        *(rule["expr"] for rule in RULES),
        *quoted,
        *re.findall(r"\n\n    ([a-z].*\(.*)", DOCUMENT),
    ]


class Named(NamedTuple):
    """A metric in an expression: the labels it is selected by, and the function that it is an argument of."""

    name: str
    labels: frozenset[str]
    function: str


def parsed(expression: str) -> list[Named]:
    """The metrics of an expression; raises ValueError if it is not PromQL."""
    if (variable := re.fullmatch(r"label_values\((.*), \w+\)", expression)) is not None:
        expression = variable[1]
    found: list[Named] = []

    def look(node: promql.Expr, function: str) -> None:
        if isinstance(node, promql.VectorSelector):
            matchers = [matcher.name for matcher in node.matchers.matchers]
            found.append(Named(str(node.name), frozenset(matchers), function))
        elif isinstance(node, promql.Call):
            for argument in node.args:
                look(argument, node.func.name)
        else:
            for part in ("expr", "lhs", "rhs", "vector_selector"):
                if isinstance(inner := getattr(node, part, None), promql.Expr | promql.VectorSelector):
                    look(inner, function)

    look(promql.parse(expression.replace("$__rate_interval", "5m")), "")
    return found


@pytest.mark.parametrize("expression", all_expressions())
def test_expressions_name_metrics_and_labels_that_exist(
    expression: str, families: dict[str, Family], series: dict[str, frozenset[str]]
) -> None:
    known = series | {"up": frozenset[str]()}
    grouped = {
        label
        for group in re.findall(r"\b(?:by|on|without|ignoring) ?\(([^)]*)\)", expression)
        for label in group.split(", ")
    } - ({"peer"} if "label_replace" in expression else set())
    found = [named for named in parsed(expression) if HAS_PROC or not named.name.startswith("process_")]
    assert found or not HAS_PROC
    for named in found:
        assert named.name in known
        assert named.labels <= known[named.name] | TARGET_LABELS
        cumulative = named.name not in families and named.name != "up"
        if cumulative or families.get(named.name, NO_FAMILY).type == "counter":
            assert named.function in {"rate", "increase"}
    assert grouped <= TARGET_LABELS.union(*(known[named.name] for named in found))


def test_every_metric_named_anywhere_exists(
    families: dict[str, Family], series: dict[str, frozenset[str]]
) -> None:
    listed = subprocess.run(["git", "ls-files", *NAMING], cwd=ROOT, capture_output=True, check=True)
    texts = [(ROOT / name).read_text(errors="replace") for name in listed.stdout.decode().splitlines()]
    named = {name for text in texts for name in re.findall(r"\bepaxos_[a-z_]+", text)}
    assert named - OTHERS <= families.keys() | series.keys()


def test_every_alert_has_a_section_and_is_fired_and_cleared_by_made_up_series() -> None:
    names = [rule["alert"] for rule in RULES]
    assert [rule["annotations"]["runbook"] for rule in RULES] == [
        f"docs/runbook.md#{name.lower()}" for name in names
    ]
    assert re.findall(r"^### (Epaxos\w+)$", RUNBOOK, re.MULTILINE) == names
    fired = {test["name"]: test["alert_rule_test"] for test in STAGED}
    assert len(STAGED) == len(fired)
    assert sorted(fired) == sorted(names)
    for name, (*before, fires, clears) in fired.items():
        assert {step["alertname"] for step in (*before, fires, clears)} == {name}
        assert fires["exp_alerts"]
        assert not [step for step in (*before, clears) if step["exp_alerts"]]


def test_every_alert_has_a_severity_that_the_runbook_explains() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", RUNBOOK, re.MULTILINE)
    assert {rule["labels"]["severity"] for rule in RULES} == set(rows)


@pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed; Debian's package prometheus has it")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "conf/prometheus.yml"),
        ("test", "rules", "tests/support/alerts.yml", "tests/support/alerts-slow.yml"),
    ],
)
def test_promtool_takes_them(arguments: tuple[str, ...]) -> None:
    run = subprocess.run([str(PROMTOOL), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_dashboard_begins_with_single_figures() -> None:
    row, *figures = panels()[:7]
    assert row["type"] == "row"
    assert {panel["type"] for panel in figures} == {"stat"}
    assert {panel["gridPos"]["y"] for panel in figures} == {1}
    assert {"Hear a quorum", "Rate", "Latency (p99)", "Behind"} <= {panel["title"] for panel in figures}


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
    for text in (*expressions(), *(rule["expr"] for rule in RULES), DOCUMENT):
        assert set(re.findall(r'job="(\w+)"', text)) == {job}
