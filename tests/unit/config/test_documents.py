"""The files and the documentation that derive from the table of keys are in step with it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from epaxos.config import default_replicas, describe_keys, load_config, markdown_table, render_file
from epaxos.config.keys import KEYS
from epaxos.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "configuration.md").read_text()


def test_the_guide_has_the_table_that_config_keys_prints() -> None:
    _, begin, rest = GUIDE.partition("<!-- keys: begin -->\n")
    table, end, _ = rest.partition("<!-- keys: end -->\n")
    assert begin
    assert end
    assert table == markdown_table(), "put the output of `epaxos config keys` into docs/configuration.md"


def test_the_documented_mistakes_get_the_documented_lines(problems: Callable[[str], list[str]]) -> None:
    text = render_file("local", default_replicas(3)).replace("port = 3265", "port = 3264", 1)
    for old, new in {
        'timeout = "1s"': 'timout = "1s"',
        "max_batch = 1000": "max_batch = 0",
        "tries = 3": "tries = true",
        'beacon = "100ms"': 'beacon = "2s"',
        "# f = 1": "f = 2",
    }.items():
        assert old in text
        text = text.replace(old, new, 1)
    block = re.search(r"<!-- mistakes: begin -->\n```console\n\$ .*\n(?P<lines>[^`]*)```", GUIDE)
    assert block
    assert block["lines"].splitlines() == problems(text)


@pytest.mark.parametrize(("n", "f", "e"), [(3, 1, 1), (5, 2, 2), (7, 3, 2)])
def test_the_documented_thresholds_are_the_defaults(n: int, f: int, e: int) -> None:
    rows = [re.findall(rf"^\| {row} \|(.*)\|$", GUIDE, re.MULTILINE)[0].split("|") for row in "nfe"]
    assert (str(n), str(f), str(e)) in [tuple(map(str.strip, column)) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize(("file", "name", "n"), [("local.toml", "local", 3), ("local-5.toml", "local-5", 5)])
def test_the_ready_made_files_are_what_init_writes(file: str, name: str, n: int) -> None:
    path = ROOT / "conf" / file
    assert path.read_text() == render_file(name, default_replicas(n))
    config = load_config(str(path), {})
    assert [replica.name for replica in config.replicas] == ["alpha", "bravo", "charlie", "delta", "echo"][:n]


@pytest.mark.parametrize("n", [1, 2, 7, 26])
def test_a_written_file_has_every_key_and_says_the_defaults(n: int) -> None:
    text = render_file("local", default_replicas(n))
    Path("new.toml").write_text(text)
    Path("empty.toml").write_text(text[text.index("[[replicas]]") :])
    new, empty = load_config("new.toml", {}), load_config("empty.toml", {})
    assert new.n == n
    assert repr(new).replace("new.toml", "empty.toml") == repr(empty)
    for key in KEYS:
        assert re.search(rf"^(# )?{key.name} = ", text, re.MULTILINE)
        assert key.purpose in text


def test_the_commented_thresholds_are_those_in_force() -> None:
    text = render_file("local", default_replicas(7)).replace("# f = ", "f = ").replace("# e = ", "e = ")
    document = tomllib.loads(text)
    assert (document["f"], document["e"]) == (3, 2)


def test_hosts_are_taken_in_turns_with_successive_ports() -> None:
    replicas = default_replicas(3, ["n1", "n2"])
    assert [(replica["host"], replica["port"]) for replica in replicas] == [
        ("n1", 3264),
        ("n2", 3264),
        ("n1", 3265),
    ]


def test_a_file_that_would_be_wrong_is_not_written() -> None:
    with pytest.raises(ConfigError, match=r"config init: replica 1 \(alpha\), host: found"):
        render_file("local", default_replicas(1, ["a b"]))


def test_keys_are_described_one_a_row() -> None:
    rows = {row.key: row for row in describe_keys()}
    assert len(rows) == len(KEYS)
    assert rows["beacon"].default == '"100ms"'
    assert rows["thrifty"].default == "false"
    assert rows["f"].default == "(n - 1) // 2"
    assert rows["client.tries"].allowed == "integer from 1 to 100"
    assert rows["replicas.port"].default == "required"
    assert not [row for row in rows.values() if "|" in "".join(row) or "\n" in "".join(row)]
