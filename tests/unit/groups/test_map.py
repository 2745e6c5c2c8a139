"""Files of groups: who holds which key, and what is said of a wrong file."""

from __future__ import annotations

from pathlib import Path

import pytest

from epaxos.errors import ConfigError
from epaxos.groups.map import SLOTS, load_groups, slot_of

CLUSTER = """
[[replicas]]
pid = 1
name = "alpha"
host = "127.0.0.1"
port = {port}
client_port = {client}
metrics_port = {metrics}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for number, name in enumerate(("east", "west")):
        ports = {
            kind: 20_000 + 10 * number + place for place, kind in enumerate(("port", "client", "metrics"))
        }
        (tmp_path / f"{name}.toml").write_text(CLUSTER.format(**ports))
    return tmp_path


def write(directory: Path, *groups: tuple[str, str, str], more: str = "") -> str:
    path = directory / "groups.toml"
    tables = [
        f'[[groups]]\nname = "{name}"\nconfig = "{config}"\nslots = "{slots}"'
        for name, config, slots in groups
    ]
    path.write_text("\n".join([more, *tables]))
    return str(path)


def test_slots_are_those_of_redis_cluster() -> None:
    assert slot_of(b"123456789") == 0x31C3
    assert slot_of(b"foo") == 12182
    assert slot_of(b"{user1000}.following") == slot_of(b"user1000") == slot_of(b"a{user1000}{b}")
    assert slot_of(b"foo{}{bar}") != slot_of(b"bar")
    assert slot_of(b"foo{{bar}}zap") == slot_of(b"{bar")


def test_every_key_has_a_group(directory: Path) -> None:
    groups = load_groups(
        write(directory, ("east", "east.toml", "0-99,16383"), ("west", "west.toml", "100-16382"))
    )
    assert [group.name for group in groups.groups] == ["east", "west"]
    assert len(groups.owners) == SLOTS
    assert groups.of(b"123456789").name == "west"
    key = next(b"%d" % number for number in range(100_000) if slot_of(b"%d" % number) == SLOTS - 1)
    assert groups.of(key).name == "east"


@pytest.mark.parametrize(
    ("groups", "more", "said"),
    [
        ([("east", "east.toml", "0-8191")], "", "slots 8192-16383 belong to no group"),
        (
            [("east", "east.toml", "0-9000"), ("west", "west.toml", "9000-16383")],
            "",
            'slot 9000 is given to "east" and "west"; allowed: each once',
        ),
        ([("east", "east.toml", "5-2")], "", 'groups[0].slots: found "5-2"; allowed: slots like'),
        ([("east", "east.toml", "0-16384")], "", 'found "0-16384"'),
        ([("east", "north.toml", "0-16383")], "", "groups[0].config: "),
        ([("", "east.toml", "0-16383")], "", 'groups[0].name: found ""; allowed: a string'),
        (
            [("east", "east.toml", "0-1"), ("east", "west.toml", "2-16383")],
            "",
            'groups[1].name: "east" names groups[0] too; allowed: each once',
        ),
        (
            [("east", "east.toml", "0-1"), ("west", "east.toml", "2-16383")],
            "",
            '127.0.0.1:20000 is also in group "east"',
        ),
        ([("east", "east.toml", "0-16383")], "slots = 1", 'unknown key "slots"; allowed: groups'),
        ([], "", "groups: allowed: one or more tables"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    directory: Path, groups: list[tuple[str, str, str]], more: str, said: str
) -> None:
    with pytest.raises(ConfigError) as found:
        load_groups(write(directory, *groups, more=more))
    assert said in str(found.value)
    assert all(line.startswith(str(directory)) for line in str(found.value).splitlines())
