from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from epaxos.cli.config import config
from epaxos.config import load_config, markdown_table
from stub_resolver.sitecustomize import resolver


def run(*arguments: str) -> Result:
    return CliRunner().invoke(config, arguments)


@pytest.mark.parametrize(
    ("n", "line"),
    [
        ("1", "1 replica (alpha), f=0, e=0, slow quorum 1, fast quorum 1"),
        ("3", "3 replicas (alpha, bravo, charlie), f=1, e=1, slow quorum 2, fast quorum 2"),
        ("4", "4 replicas (alpha, bravo, charlie, delta), f=1, e=1, slow quorum 3, fast quorum 3"),
    ],
)
def test_a_new_file_is_found_right(n: str, line: str) -> None:
    new = run("init", "--replicas", n)
    assert (new.exit_code, new.stderr) == (0, "")
    Path("new.toml").write_text(new.stdout)
    result = run("check", "new.toml")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"new.toml: ok: {line}\n", "")


def test_a_file_to_check_is_named_as_by_other_commands_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EPAXOS_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    nowhere = run("check")
    assert (nowhere.exit_code, "no FILE is given" in nowhere.stderr) == (2, True)
    Path("epaxos.toml").write_text("")
    for arguments in (("-c", "epaxos.toml"), ()):
        result = run("check", *arguments)
        assert (result.exit_code, result.stdout.partition(" ok: ")[0]) == (0, "epaxos.toml:")
    both = run("check", "epaxos.toml", "-c", "epaxos.toml")
    assert (both.exit_code, "allowed: one of them" in both.stderr) == (2, True)


def test_a_minimal_file_has_the_same_meaning() -> None:
    arguments = ("--replicas", "3", "--host", "n1", "--host", "n2", "--name", "blue")
    files = {}
    for name, options in (("whole.toml", ()), ("minimal.toml", ("--minimal",))):
        result = run("init", *arguments, *options)
        assert result.exit_code == 0
        Path(name).write_text(result.stdout)
        files[name] = load_config(name, {})
    assert replace(files["minimal.toml"], source="whole.toml") == files["whole.toml"]
    assert Path("minimal.toml").read_text().count("\n") < 30
    assert "#" not in Path("minimal.toml").read_text()


def test_mistakes_go_to_stderr_and_end_with_2() -> None:
    Path("bad.toml").write_text("thrifty = 1\nagregate = true\n")
    result = run("check", "bad.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "bad.toml: thrifty: found 1; allowed: true or false",
        'bad.toml: agregate: unknown key; did you mean "aggregate"?',
    ]


def test_check_leaves_the_environment_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPAXOS_THRIFTY", "perhaps")
    Path("new.toml").touch()
    assert run("check", "new.toml").exit_code == 0


@pytest.mark.parametrize(
    ("meanings", "warnings"),
    [
        ({"a.test": ["::1"], "b.test": ["127.0.0.1"]}, []),
        (
            {"a.test": [], "b.test": ["198.51.100.1"]},
            ['replica alpha, host: "a.test" does not resolve here (Name or service not known)'],
        ),
        (
            {"a.test": None, "b.test": ["198.51.100.1"]},
            ['replica alpha, host: the resolver did not answer within 0.2s about "a.test"'],
        ),
        (
            {"a.test": ["127.0.1.1"], "b.test": ["198.51.100.1"]},
            [
                (
                    'replica alpha, host: "a.test" means 127.0.1.1 here, which no other machine can reach, and other '
                    "replicas are elsewhere; set `listen` if alpha runs here"
                )
            ],
        ),
    ],
    ids=["fine", "unknown", "silent", "debian"],
)
def test_what_looks_wrong_from_here_is_a_warning(
    meanings: dict[str, list[str] | None], warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("hosts.json").write_text(json.dumps(meanings))
    monkeypatch.setattr(socket, "getaddrinfo", resolver(Path("hosts.json").absolute()))
    monkeypatch.setattr("epaxos.cli.config.NAME_PATIENCE", 0.2)
    new = run("init", "--replicas", "2", "--host", "a.test", "--host", "b.test").stdout
    Path("new.toml").write_text(new)
    result = run("check", "new.toml")
    assert (result.exit_code, result.stdout.startswith("new.toml: ok: ")) == (0, True)
    assert result.stderr.splitlines() == [f"new.toml: warning: {warning}" for warning in warnings]
    # With `listen`, what the host means here is not what matters for this machine.
    Path("new.toml").write_text(new.replace('# listen = "0.0.0.0"', 'listen = "0.0.0.0"'))
    if warnings and "127.0.1.1" in warnings[0]:
        assert run("check", "new.toml").stderr == ""


def test_hosts_and_name_are_taken() -> None:
    result = run("init", "--replicas", "3", "--host", "n1", "--host", "n2", "--host", "::1", "--name", "blue")
    Path("new.toml").write_text(result.stdout)
    cluster = load_config("new.toml", {})
    assert cluster.name == "blue"
    assert [replica.peer_endpoint for replica in cluster.replicas] == [
        "tcp://n1:3264",
        "tcp://n2:3264",
        "tcp://[::1]:3264",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["init"], "Missing option '--replicas'"),
        (["init", "--replicas", "0"], "0 is not in the range 1<=x<=26"),
        (["init", "--replicas", "27"], "27 is not in the range 1<=x<=26"),
        (
            ["init", "--replicas", "1", "--host", "*"],
            'config init: replica 1 (alpha), host: found "*"; allowed: ',
        ),
        (["init", "--replicas", "1", "--name", ""], 'config init: name: found ""; allowed: '),
        (["check", "none.toml"], "none.toml: cannot be read: No such file or directory\n"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], text: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in result.stderr


def test_keys_prints_the_table() -> None:
    assert run("keys").stdout == markdown_table()
