from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from epaxos.actors import process
from epaxos.cli import serve
from epaxos.cli.logs import log_to_stderr
from epaxos.cli.options import LOG_LEVELS
from epaxos.config import Config, default_replicas, render_file
from epaxos.config.keys import KEYS
from epaxos.config.kinds import Choice
from epaxos.errors import ConfigError, EpaxosError, StorageError
from epaxos.web import open_pages

Run = Callable[..., Result]


class Served:
    """The calls of `run_replica`, and what it returns."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float]] = []
        self.code = 0
        self.error: EpaxosError | None = None
        self.joins = False

    def __call__(self, config: Config, name: str, pages: process.Pages, uptime: float, *, joins: bool) -> int:
        assert pages is open_pages
        self.calls.append((config.name, name, uptime))
        self.joins = joins
        logging.getLogger("epaxos.test").info("first line\nsecond line")
        logging.getLogger("epaxos.test").debug("details")
        if self.error is not None:
            raise self.error
        return self.code


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    replacement = Served()
    monkeypatch.setattr(process, "run_replica", replacement)
    return replacement


def test_the_named_replica_of_the_named_file(run: Run, served: Served) -> None:
    Path("mine.toml").write_text(
        'uptime = "1m"\n' + render_file("mine", default_replicas(5)).replace("uptime", "# ")
    )
    result = run("serve", "-c", "mine.toml", "-n", "echo")
    assert result.exit_code == 0, result.output
    assert (served.calls, served.joins) == ([("mine", "echo", 60.0)], False)
    assert (run("serve", "-c", "mine.toml", "-n", "echo", "--join").exit_code, served.joins) == (0, True)


def test_uptime_on_the_command_line_comes_first(run: Run, served: Served) -> None:
    assert run("serve", "-n", "alpha", "--uptime", "1m30s").exit_code == 0
    assert run("serve", "-n", "alpha", "--uptime", "0s").exit_code == 0
    assert served.calls == [("local", "alpha", 90.0), ("local", "alpha", 0.0)]


def test_the_exit_code_is_that_of_the_replica(run: Run, served: Served) -> None:
    served.code = 1
    assert run("serve", "-n", "alpha").exit_code == 1


def test_the_name_comes_from_the_environment(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPAXOS_REPLICA", "bravo")
    assert run("serve").exit_code == 0
    assert run("serve", "--name", "charlie").exit_code == 0
    assert [name for _, name, _ in served.calls] == ["bravo", "charlie"]


def test_the_only_replica_needs_no_name(run: Run, served: Served) -> None:
    Path("epaxos.toml").write_text(render_file("single", default_replicas(1)))
    assert run("serve").exit_code == 0
    assert served.calls == [("single", "alpha", 0.0)]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            [],
            "has 3 replicas: say which one this is with --name or EPAXOS_REPLICA; allowed: alpha, bravo, charlie",
        ),
        (["-n", "delta"], "no replica has the name 'delta'; allowed: alpha, bravo, charlie"),
    ],
)
def test_no_such_replica(run: Run, served: Served, arguments: list[str], line: str) -> None:
    result = run("serve", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"epaxos: defaults: {line}\n")
    assert not served.calls


def test_a_port_in_use(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise ConfigError("replica alpha: cannot listen on 127.0.0.1:3264 (port)")

    monkeypatch.setattr(process, "run_replica", fail)
    result = run("serve", "-n", "alpha")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "epaxos: replica alpha: cannot listen on 127.0.0.1:3264 (port)\n"


def test_the_log_is_one_line_a_message(run: Run, served: Served) -> None:
    result = run("serve", "-n", "alpha")
    [line] = result.stderr.splitlines()
    time, rest = line.split(" ", 1)
    assert time[4] + time[10] + time[19] + time[-1] == "-T.Z"
    assert rest == r"INFO     alpha: first line\nsecond line"
    assert result.stdout == ""
    assert served.calls


@pytest.mark.parametrize(("level", "lines"), [("debug", 2), ("info", 1), ("warning", 0)])
def test_log_levels(run: Run, served: Served, level: str, lines: int) -> None:
    assert len(run("serve", "-n", "alpha", "--log-level", level).stderr.splitlines()) == lines
    Path("epaxos.toml").write_text(f'log_level = "{level}"\n')
    assert len(run("serve", "-n", "alpha").stderr.splitlines()) == lines
    assert len(served.calls) == 2


@pytest.mark.parametrize("supervised", [[], ["--supervised"]])
def test_json_is_an_object_a_line(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch, supervised: list[str]
) -> None:
    monkeypatch.setattr(serve, "stop_when_input_ends", lambda _: None)
    (line,) = run("serve", "-n", "alpha", "--log-format", "json", *supervised).stderr.splitlines()
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    assert told == {
        "level": "info",
        "replica": "alpha",
        "logger": "epaxos.test",
        "message": "first line\nsecond line",
    }
    assert served.calls


def test_why_it_ends_is_an_object_too(run: Run, served: Served) -> None:
    served.error = StorageError("no such disk")
    result = run("serve", "-n", "alpha", "--log-format", "json")
    last = json.loads(result.stderr.splitlines()[-1])
    assert (result.exit_code, last["level"], last["message"]) == (1, "critical", "no such disk")


def test_under_a_supervisor_lines_have_no_name(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[float] = []
    monkeypatch.setattr(serve, "stop_when_input_ends", watched.append)
    result = run("serve", "-n", "alpha", "--supervised")
    assert result.stderr.split(maxsplit=2)[2] == "first line\\nsecond line\n"
    assert watched == [serve.STOP_GRACE]
    assert "--supervised" not in run("serve", "--help").stdout
    assert served.calls


def test_levels_are_those_of_the_configuration() -> None:
    [kind] = [key.kind for key in KEYS if key.path == "log_level"]
    assert isinstance(kind, Choice)
    assert kind.options == LOG_LEVELS


def test_a_line_of_the_log_is_printable_whatever_it_quotes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = logging.getLogger()
    monkeypatch.setattr(before, "handlers", list(before.handlers))
    monkeypatch.setattr(before, "level", before.level)
    log_to_stderr("info", "alpha")
    logging.getLogger("stranger").warning("%s", "ü \x1b[2J\r\n\x07\u2028\udc80.")
    line = capsys.readouterr().err
    assert line.endswith("ü \\x1b[2J\\r\\n\\x07\\u2028\\udc80.\n")
