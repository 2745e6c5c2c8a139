"""Tables as files: what is read, and the line that each mistake gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from epaxos.errors import ConfigError
from epaxos.protocol.quorums import Quorums
from epaxos.simulation.topology.table import make_table, read_table

CONF = Path(__file__).parents[4] / "conf"
FILE = "table.toml"
SITES = 'sites = ["us", "eu", "asia"]\n'
RTT = "[rtt]\nus = { eu = 70, asia = 150.5 }\neu = { asia = 220 }\n"
TIME = "milliseconds there and back, a number from 0.001 to 100000"
NAME = "1 to 32 letters, digits, _ or -, the first a letter or digit"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(text: str) -> list[str]:
    Path(FILE).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_table(FILE)
    return str(caught.value).splitlines()


def test_a_table_is_symmetric_and_in_seconds() -> None:
    Path(FILE).write_text(SITES + RTT)
    table = read_table(FILE)
    assert table.source == FILE
    assert table.sites == ("us", "eu", "asia")
    assert table.quorums == Quorums(3, 1, 1)
    assert table.rtt == ((0.0, 0.07, 0.1505), (0.07, 0.0, 0.22), (0.1505, 0.22, 0.0))
    assert table.longest == 0.22
    assert [table.nearest(row) for row in range(3)] == [(1, 2), (0, 2), (0, 1)]


@pytest.mark.parametrize(
    "rtt",
    [
        "[rtt.us]\neu = 70\nasia = 150.5\n[rtt.eu]\nasia = 220\n",
        "[rtt]\nasia = { us = 150.5, eu = 220.0 }\neu = { us = 70 }\n",
        'rtt = { "us" = { "eu" = 70, asia = 150.5 }, "eu" = { asia = 220 } }\n',
    ],
)
def test_a_pair_may_stand_in_either_direction_and_in_any_notation(rtt: str) -> None:
    tables = []
    for text in (RTT, rtt):
        Path(FILE).write_text(SITES + text)
        tables.append(read_table(FILE))
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("lines", "quorums"),
    [("f = 1\n", Quorums(3, 1, 1)), ("e = 0\n", Quorums(3, 1, 0)), ("f = 0\n", (3, 0, 0))],
)
def test_the_crashes_to_survive_may_be_given(lines: str, quorums: Quorums) -> None:
    Path(FILE).write_text(lines + SITES + RTT)
    assert read_table(FILE).quorums == quorums


@pytest.mark.parametrize("n", [3, 5, 7])
def test_the_tables_that_are_shipped_are_fine(n: int) -> None:
    assert len(read_table(str(CONF / f"regions-{n}.toml")).sites) == n


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (RTT, "sites: missing; allowed: an array of 2 to 15 names"),
        (f"sites = 3\n{RTT}", "sites: found 3; allowed: an array of 2 to 15 names"),
        (f'sites = ["us"]\n{RTT}', "sites: found 1 of them; allowed: an array of 2 to 15 names"),
        (
            f"sites = {list(map(str, range(16)))}",
            "sites: found 16 of them; allowed: an array of 2 to 15 names",
        ),
        (f'sites = ["us", "e u"]\n{RTT}', f'sites, number 2: found "e u"; allowed: {NAME}'),
        (f'sites = ["us", ""]\n{RTT}', f'sites, number 2: found ""; allowed: {NAME}'),
        (
            f'sites = ["us", "eu", "us"]\n{RTT}',
            'sites, number 3: found "us"; allowed: a name that number 1 has not',
        ),
        (f"site = 1\n{SITES}{RTT}", 'site: unknown key; did you mean "sites"?'),
        (f"thrifty = true\n{SITES}{RTT}", "thrifty: unknown key; allowed: sites, f, e, rtt"),
        (f'"a\\nb" = true\n{SITES}{RTT}', '"a\\nb": unknown key; allowed: sites, f, e, rtt'),
        (f"f = 2\n{SITES}{RTT}", "f: found 2; allowed: integer from 0 to 1 with 3 sites"),
        (f'f = "1"\n{SITES}{RTT}', 'f: found "1"; allowed: integer from 0 to 1 with 3 sites'),
        (f"f = true\n{SITES}{RTT}", "f: found true; allowed: integer from 0 to 1 with 3 sites"),
        (f"e = -1\n{SITES}{RTT}", "e: found -1; allowed: integer from 0 to 1 with 3 sites and f = 1"),
        (f"f = 0\ne = 1\n{SITES}{RTT}", "e: found 1; allowed: 0 with 3 sites and f = 0"),
        (SITES, "rtt: missing; allowed: a table, [rtt]"),
        (f"{SITES}rtt = 5", "rtt: found 5; allowed: a table, [rtt]"),
        (f"{SITES}{RTT}asia = 5", "rtt.asia: found 5; allowed: times to other sites, like { us = 80 }"),
        (f"{SITES}{RTT}aisa = {{ us = 5 }}", 'rtt.aisa: unknown site; did you mean "asia"?'),
        (f"{SITES}{RTT}mars = 5", "rtt.mars: unknown site; allowed: us, eu, asia"),
        (f'{SITES}{RTT}"m s" = 5', 'rtt."m s": unknown site; allowed: us, eu, asia'),
        (f"{SITES}{RTT}asia = {{ mars = 5 }}", "rtt.asia.mars: unknown site; allowed: us, eu, asia"),
        (f"{SITES}{RTT}asia = {{ asia = 0 }}", "rtt.asia.asia: found 0; allowed: times to other sites only"),
        (
            f"{SITES}{RTT}asia = {{ us = 150.5 }}",
            "rtt.asia.us: given a second time; allowed: each pair once, and rtt.us.asia is there",
        ),
        (f"{SITES}{RTT}".replace("70", "0"), f"rtt.us.eu: found 0; allowed: {TIME}"),
        (f"{SITES}{RTT}".replace("70", "-70"), f"rtt.us.eu: found -70; allowed: {TIME}"),
        (f"{SITES}{RTT}".replace("70", "1e6"), f"rtt.us.eu: found 1000000.0; allowed: {TIME}"),
        (f"{SITES}{RTT}".replace("70", "true"), f"rtt.us.eu: found true; allowed: {TIME}"),
        (f"{SITES}{RTT}".replace("70", '"70ms"'), f'rtt.us.eu: found "70ms"; allowed: {TIME}'),
        (f"{SITES}{RTT}".replace("70", "[70]"), f"rtt.us.eu: found an array; allowed: {TIME}"),
        (f"{SITES}[rtt]\nus = {{ eu = 70, asia = 150 }}", f"rtt.eu.asia: missing; allowed: {TIME}"),
    ],
)
def test_a_mistake_gets_one_line(text: str, problem: str) -> None:
    assert problems(text) == [f"{FILE}: {problem}"]


def test_all_mistakes_are_reported_at_once() -> None:
    assert problems("sites = [1, 2]") == [
        f"{FILE}: sites, number {number}: found {number}; allowed: {NAME}" for number in (1, 2)
    ]
    assert problems(f"f = 9\nx = 1\n{SITES}[rtt]\nus = {{ eu = 0, asia = -1 }}") == [
        f"{FILE}: x: unknown key; allowed: sites, f, e, rtt",
        f"{FILE}: f: found 9; allowed: integer from 0 to 1 with 3 sites",
        f"{FILE}: rtt.us.eu: found 0; allowed: {TIME}",
        f"{FILE}: rtt.us.asia: found -1; allowed: {TIME}",
    ]


def test_numbers_that_are_none_are_refused() -> None:
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"^t: rtt\.a\.b: found \w+; allowed: milliseconds"):
            make_table({"sites": ["a", "b"], "rtt": {"a": {"b": wrong}}}, "t")


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^nowhere\.toml: cannot be read: "):
        read_table("nowhere.toml")
    assert problems("sites = [") == [f"{FILE}: line 1, the end of the file: not TOML: Invalid value"]
