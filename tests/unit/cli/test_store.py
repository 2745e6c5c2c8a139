"""The commands on one key, against a client that keeps a dictionary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from click.testing import Result

from epaxos.cli import store
from epaxos.client.commands import Op
from epaxos.client.decoding import decode
from epaxos.client.reading import Look
from epaxos.client.results import CasResult, Page
from epaxos.config import Config
from epaxos.errors import ClientError, NoAnswer, OperationFailed, Refused
from epaxos.groups import client as groups
from epaxos.statemachine.batch import Limits
from epaxos.statemachine.store import Store

Run = Callable[..., Result]


class FakeClient:
    """Does what `Client` does, on `data`; `error` is raised instead if it is set."""

    data: dict[bytes, bytes]
    made: list[dict[str, Any]]
    error: ClientError | None
    ends: ClassVar[dict[str, object]]
    reads: ClassVar[str] = ""
    behind: ClassVar[int | None] = 0

    def __init__(self, *, config: Config, replica: str | None = None, timeout: float | None) -> None:
        self.made.append({"cluster": config.name, "replica": replica, "timeout": timeout})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass

    def execute(self, operation: Op, *, timeout: float) -> Any:
        """What a client of groups asks: to get, to put and to compare."""
        assert timeout > 0
        if operation.argument is None:
            return self.get(operation.key)
        if isinstance(operation.argument, list):
            return self.cas(operation.key, *operation.argument)
        assert isinstance(operation.argument, bytes)
        return self.put(operation.key, operation.argument)

    def get(self, key: bytes, reads: str = "log") -> bytes | None:
        type(self).reads = reads
        if self.error:
            raise self.error
        return self.data.get(key)

    def look(self, key: bytes) -> Look[bytes]:
        return Look(self.data.get(key), self.behind)

    def put(self, key: bytes, value: bytes, **ends: object) -> None:
        type(self).ends = ends
        self.write_read(key, value)

    def write_read(self, key: bytes, value: bytes) -> bytes | None:
        before = self.get(key)
        self.data[key] = value
        return before

    def delete(self, key: bytes) -> bool:
        return self.data.pop(key, None) is not None

    def exists(self, key: bytes, reads: str) -> bool:
        type(self).reads = reads
        return key in self.data

    def scan(
        self, prefix: bytes, after: bytes | None, limit: int, *, values: bool, reverse: bool, reads: str
    ) -> Page[bytes]:
        type(self).reads = reads
        made = Store(Limits(), lambda _: None)
        made.load(self.data.items())
        op = Op.scan(prefix, after, limit, values=values, reverse=reverse)
        outcomes, found = made.execute(bytes([op.operation]), [op.key], [op.argument])
        return decode(op, outcomes[0], found and found[0])

    def count(self, prefix: bytes, reads: str) -> int:
        type(self).reads = reads
        return sum(key.startswith(prefix) for key in self.data)

    def delete_prefix(self, prefix: bytes) -> int:
        return sum(self.delete(key) for key in list(self.data) if key.startswith(prefix))

    def cas(self, key: bytes, expected: bytes | None, new: bytes | None) -> CasResult:
        found = self.get(key)
        if found != expected:
            return CasResult(swapped=False, current=found)
        self.data.pop(key, None)
        self.data |= {} if new is None else {key: new}
        return CasResult(swapped=True, current=new)

    def increment(self, key: bytes, amount: int) -> int:
        number = int(self.get(key) or b"0") + amount
        self.data[key] = b"%d" % number
        return number

    def append(self, key: bytes, suffix: bytes) -> int:
        self.data[key] = (self.get(key) or b"") + suffix
        return len(self.data[key])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    monkeypatch.setattr(FakeClient, "data", {}, raising=False)
    monkeypatch.setattr(FakeClient, "made", [], raising=False)
    monkeypatch.setattr(FakeClient, "error", None, raising=False)
    monkeypatch.setattr(store, "Client", FakeClient)
    return FakeClient


def outcome(result: Result) -> tuple[int, bytes, str]:
    return result.exit_code, result.stdout_bytes, result.stderr


def test_get(run: Run, fake: type[FakeClient]) -> None:
    fake.data[b"key"] = b"\x00value\xff"
    assert outcome(run("get", "key")) == (0, b"\x00value\xff", "")
    assert outcome(run("get", "key", "--hex")) == (0, b"0076616c7565ff\n", "")
    assert outcome(run("get", "6b6579", "--hex-key")) == (0, b"\x00value\xff", "")


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        (0, ""),
        (7, "epaxos get: read locally, at a replica that has not executed 7 it has heard of\n"),
        (None, "epaxos get: read locally, at a replica that hears no quorum\n"),
    ],
)
def test_a_local_read_says_how_far_it_is_behind(
    run: Run, fake: type[FakeClient], behind: int | None, said: str
) -> None:
    fake.data[b"key"], fake.behind = b"value", behind
    assert outcome(run("get", "key", "--reads", "local")) == (0, b"value", said)


def test_reads_are_passed_on(run: Run, fake: type[FakeClient]) -> None:
    fake.data[b"key"] = b"value"
    for arguments, reads in (
        (["get", "key", "--reads", "quorum"], "quorum"),
        (["exists", "key", "--reads", "quorum"], "quorum"),
        (["scan", "--reads", "local"], "local"),
        (["count", "--reads", "local"], "local"),
    ):
        assert run(*arguments).exit_code == 0
        assert fake.reads == reads
    assert run("scan", "--reads", "quorum").exit_code == 2


def test_an_empty_value_is_not_an_absent_one(run: Run, fake: type[FakeClient]) -> None:
    fake.data[b"key"] = b""
    assert outcome(run("get", "key")) == (0, b"", "")
    assert outcome(run("get", "other")) == (1, b"", "epaxos get: there is no value under this key\n")


def test_lists_show_what_is_there_safely(run: Run, fake: type[FakeClient]) -> None:
    fake.data |= {b"a": b"1", b"b\x1b": b"tab\tline\n\\", b"\xff": b"\xfe", b"c": b""}
    lines = [b"a\t1", rb"b\x1b" + b"\t" + rb"tab\tline\n\\", b"c\t", rb"\xff" + b"\t" + rb"\xfe"]
    assert outcome(run("scan")) == (0, b"\n".join([*lines, b""]), "")
    assert outcome(run("scan", "--keys-only", "--reverse", "--limit", "2")) == (0, rb"\xff" + b"\nc\n", "")
    assert outcome(run("scan", "--hex")) == (0, b"61\t31\n621b\t746162096c696e650a5c\n63\t\nff\tfe\n", "")
    shown = (
        b'{"key": "b\\u001b", "value": "tab\\tline\\n\\\\"}\n{"key": "c", "value": ""}\n'
        b'{"key": {"hex": "ff"}, "value": {"hex": "fe"}}\n'
    )
    assert outcome(run("scan", "--json", "--after", "b")) == (0, shown, "")
    assert outcome(run("scan", "ff", "--hex-key", "--keys-only", "--json")) == (
        0,
        b'{"key": {"hex": "ff"}}\n',
        "",
    )
    fake.data |= {b"k%04d" % number: b"" for number in range(1500)}
    assert len(run("scan", "k").stdout_bytes.splitlines()) == 1500
    assert len(run("scan", "k", "--limit", "1200").stdout_bytes.splitlines()) == 1200
    result = run("scan", "--json", "--hex")
    assert (result.exit_code, "--json and --hex cannot be given together" in result.stderr) == (2, True)


def test_counts_and_what_begins_alike(run: Run, fake: type[FakeClient]) -> None:
    fake.data |= {b"a1": b"", b"a2": b"", b"b": b""}
    assert outcome(run("count", "a")) == (0, b"2\n", "")
    assert outcome(run("delete-prefix", "a")) == (0, b"2\n", "")
    for arguments in ((), ("a", "--all")):
        result = run("delete-prefix", *arguments)
        assert (result.exit_code, "PREFIX, or --all to remove all keys" in result.stderr) == (2, True)
    assert outcome(run("delete-prefix", "--all")) == (0, b"1\n", "")


def test_whom_to_ask(run: Run, fake: type[FakeClient]) -> None:
    fake.data[b"key"] = b"value"
    assert run("get", "key").exit_code == 0
    assert run("get", "key", "--replica", "bravo", "--timeout", "500ms").exit_code == 0
    assert fake.made == [
        {"cluster": "local", "replica": None, "timeout": None},
        {"cluster": "local", "replica": "bravo", "timeout": 0.5},
    ]


def test_whom_one_cannot_ask(run: Run, fake: type[FakeClient]) -> None:
    result = run("get", "key", "--replica", "brave")
    message = "epaxos: defaults: no replica has the name 'brave'; allowed: alpha, bravo, charlie\n"
    assert outcome(result) == (2, b"", message)
    assert not fake.made


def test_a_file_of_groups(run: Run, fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "Client", fake)
    Path("east.toml").write_text('name = "east"\n')
    table = '[[groups]]\nname = "east"\nconfig = "east.toml"\nslots = "0-{0}"\n'
    Path("groups.toml").write_text(table.format(16383))
    assert run("put", "-c", "groups.toml", "key", "value").exit_code == 0
    assert fake.data[b"key"] == b"value"
    assert fake.made == [{"cluster": "east", "replica": None, "timeout": 2.0}]
    result = run("get", "-c", "groups.toml", "key", "--replica", "alpha")
    assert result.exit_code == 2
    assert "--replica NAME needs a file of one cluster, not of groups" in result.stderr
    checked = run("config", "check", "groups.toml")
    assert outcome(checked) == (0, b"groups.toml: ok: 1 group: east\n", "")
    result = run("backup", "-c", "groups.toml", "alpha", "x")
    message = "groups.toml: found groups; allowed: the file of one cluster, like those of its groups: east.toml (east)"
    assert outcome(result) == (2, b"", f"epaxos: {message}\n")
    Path("groups.toml").write_text(table.replace('"east"\nc', '"west"\nc').format(16383))
    message = "the cluster named as group west has been used as group east"
    assert outcome(run("get", "-c", "groups.toml", "key")) == (
        2,
        b"",
        f"epaxos: groups.toml: {message}\n",
    )
    Path("groups.toml").write_text(table.format(16382))
    message = "epaxos: groups.toml: slots 16383-16383 belong to no group; allowed: all 0-16383 to one\n"
    assert outcome(run("get", "-c", "groups.toml", "key")) == (2, b"", message)


def test_put(run: Run, fake: type[FakeClient]) -> None:
    assert outcome(run("put", "key", "größe")) == (0, b"", "")
    assert fake.data[b"key"] == "größe".encode()
    assert outcome(run("put", "key", "--hex", "00FF")) == (0, b"", "")
    assert fake.data[b"key"] == b"\x00\xff"
    assert outcome(run("put", "key", "-", stdin=b"line\n")) == (0, b"", "")
    assert fake.data[b"key"] == b"line\n"
    assert outcome(run("put", "--", "key", "-value")) == (0, b"", "")
    assert fake.data[b"key"] == b"-value"


def test_put_previous(run: Run, fake: type[FakeClient]) -> None:
    message = "epaxos put: done; there was no value before\n"
    assert outcome(run("put", "key", "--previous", "one")) == (0, b"", message)
    assert outcome(run("put", "key", "--previous", "two")) == (0, b"one", "")
    assert outcome(run("put", "key", "--previous", "--hex", "00")) == (0, b"74776f\n", "")
    assert fake.data == {b"key": b"\x00"}


def test_put_what_is_not_allowed(run: Run, fake: type[FakeClient]) -> None:
    result = run("put", "key", "--hex", "hello")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "VALUE: found 'hello'; allowed: hexadecimal digits" in result.stderr
    assert not fake.data


def test_delete(run: Run, fake: type[FakeClient]) -> None:
    fake.data[b"key"] = b""
    assert outcome(run("delete", "key")) == (0, b"", "")
    assert outcome(run("delete", "key")) == (1, b"", "epaxos delete: there is no value under this key\n")


def test_exists(run: Run, fake: type[FakeClient]) -> None:
    fake.data[b"key"] = b""
    assert outcome(run("exists", "key")) == (0, b"", "")
    assert outcome(run("exists", "other")) == (1, b"", "epaxos exists: there is no value under this key\n")


def test_cas(run: Run, fake: type[FakeClient]) -> None:
    fake.data[b"key"] = b"old"
    assert outcome(run("cas", "key", "old", "new")) == (0, b"", "")
    assert fake.data == {b"key": b"new"}
    other = "epaxos cas: not the expected value: another one was found\n"
    assert outcome(run("cas", "key", "old", "newer")) == (1, b"new", other)
    assert outcome(run("cas", "key", "--hex", "00", "01")) == (1, b"6e6577\n", other)
    assert outcome(run("cas", "--hex", "key", "6e6577", "00")) == (0, b"", "")
    assert fake.data == {b"key": b"\x00"}


def test_cas_of_what_is_absent(run: Run, fake: type[FakeClient]) -> None:
    absent = "epaxos cas: not the expected value: there is no value under this key\n"
    assert outcome(run("cas", "key", "old", "new")) == (1, b"", absent)
    assert outcome(run("cas", "--absent", "key", "new")) == (0, b"", "")
    assert outcome(run("cas", "key", "newer", "--absent"))[:2] == (1, b"new")
    assert outcome(run("cas", "key", "newer", "--delete"))[:2] == (1, b"new")
    assert fake.data == {b"key": b"new"}
    assert outcome(run("cas", "key", "new", "--delete")) == (0, b"", "")
    assert outcome(run("cas", "--delete", "key", "new")) == (1, b"", absent)


def test_cas_with_standard_input(run: Run, fake: type[FakeClient]) -> None:
    fake.data[b"key"] = b"old\n"
    assert outcome(run("cas", "key", "-", "new", stdin=b"old\n")) == (0, b"", "")
    assert outcome(run("cas", "key", "new", "-", stdin=b"newer\n")) == (0, b"", "")
    assert fake.data == {b"key": b"newer\n"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["key"],
            "found 0 arguments after KEY; allowed: KEY EXPECTED NEW, --absent KEY NEW, or --delete KEY EXPECTED",
        ),
        (
            ["key", "new"],
            "found 1 arguments after KEY; allowed: KEY EXPECTED NEW, --absent KEY NEW, or --delete KEY EXPECTED",
        ),
        (["key", "a", "b", "--absent"], "found 2 arguments after KEY; allowed: KEY NEW with --absent"),
        (["key", "a", "b", "--delete"], "found 2 arguments after KEY; allowed: KEY EXPECTED with --delete"),
        (["key", "--absent", "--delete"], "--absent and --delete leave nothing to do; allowed: one of them"),
        (["key", "-", "-"], "standard input can be one of EXPECTED and NEW, not both"),
        (["key", "--hex", "00", "new"], "NEW: found 'new'; allowed: hexadecimal digits"),
        (["key", "--hex", "old", "00"], "EXPECTED: found 'old'; allowed: hexadecimal digits"),
    ],
)
def test_cas_of_the_wrong_things(run: Run, fake: type[FakeClient], arguments: list[str], line: str) -> None:
    result = run("cas", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"epaxos cas: {line}" in result.stderr
    assert not fake.data


def test_incr(run: Run, fake: type[FakeClient]) -> None:
    assert outcome(run("incr", "key")) == (0, b"1\n", "")
    assert outcome(run("incr", "key", "41")) == (0, b"42\n", "")
    assert outcome(run("incr", "key", "-43", "--replica", "alpha")) == (0, b"-1\n", "")
    assert outcome(run("incr", "key", "-5")) == (0, b"-6\n", "")
    assert fake.data == {b"key": b"-6"}


@pytest.mark.parametrize("amount", ["one", "1.5", "--timout"])
def test_incr_by_no_number(run: Run, fake: type[FakeClient], amount: str) -> None:
    result = run("incr", "key", amount)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{amount!r} is not a valid integer" in result.stderr
    assert not fake.data


def test_append(run: Run, fake: type[FakeClient]) -> None:
    assert outcome(run("append", "key", "one")) == (0, b"3\n", "")
    assert outcome(run("append", "key", "--hex", "00")) == (0, b"4\n", "")
    assert outcome(run("append", "key", "-", stdin=b"\n")) == (0, b"5\n", "")
    assert fake.data == {b"key": b"one\x00\n"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoAnswer("no answer; it may have executed"), 3),
        (Refused("alpha refused the command: too long"), 2),
        (OperationFailed("it is no number"), 1),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "key"],
        ["put", "key", "value"],
        ["put", "key", "value", "--previous"],
        ["cas", "key", "old", "new"],
        ["incr", "key"],
        ["append", "key", "value"],
    ],
)
def test_errors(
    run: Run, fake: type[FakeClient], arguments: list[str], error: ClientError, code: int
) -> None:
    fake.error = error
    assert outcome(run(*arguments)) == (code, b"", f"epaxos: {error}\n")


def test_put_says_when_a_value_ends(run: Run, fake: type[FakeClient]) -> None:
    assert outcome(run("put", "key", "value", "--ttl", "90s")) == (0, b"", "")
    assert fake.ends == {"ttl": 90.0, "keep_ttl": False}
    assert outcome(run("put", "key", "value", "--keep-ttl")) == (0, b"", "")
    assert fake.ends == {"ttl": None, "keep_ttl": True}
    result = run("put", "key", "value", "--keep-ttl", "--previous")
    assert (result.exit_code, result.stdout_bytes) == (2, b"")
    assert "--ttl, --keep-ttl and --previous cannot be given together" in result.stderr
