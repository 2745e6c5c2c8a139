from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import Result

from epaxos.cli import up
from epaxos.cli.supervisor import Print
from epaxos.config import default_replicas
from epaxos.config.rendering import render_file

Run = Callable[..., Result]
SERVE = [sys.executable, "-m", "epaxos", "serve", "--supervised"]


class FakeSupervisor:
    """Records what it is to run."""

    commands: Mapping[str, Sequence[str]]

    def __init__(self, show: Print, advice: str, grace: float) -> None:
        show(None, f"{advice} {grace:g}")
        self.show = show

    async def run(self, commands: Mapping[str, Sequence[str]]) -> int:
        type(self).commands = commands
        self.show(next(iter(commands)), "a line")
        return 42


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "Supervisor", FakeSupervisor)


def test_all_replicas_each_by_its_name(run: Run) -> None:
    result = run("up")
    assert (result.exit_code, result.stdout) == (42, "")
    assert FakeSupervisor.commands == {
        name: [*SERVE, "--name", name] for name in ("alpha", "bravo", "charlie")
    }
    own, line = result.stderr.splitlines()
    assert own == f"up      | {up.NOT_AGAIN} {up.STOP_GRACE:g}"
    assert line == "alpha   | a line"


def test_options_are_handed_on(run: Run) -> None:
    Path("mine.toml").write_text('name = "mine"\n')
    result = run("up", "-c", "mine.toml", "--uptime", "1.5s", "--log-level", "debug")
    assert result.exit_code == 42
    options = ["--config", "mine.toml", "--uptime", "1s500ms", "--log-level", "debug"]
    assert FakeSupervisor.commands["bravo"] == [*SERVE, *options, "--name", "bravo"]


def test_a_file_of_groups_runs_all_of_them(run: Run) -> None:
    texts = [render_file(name, default_replicas(1)) for name in ("east", "west")]
    Path("east.toml").write_text(texts[0])
    Path("west.toml").write_text(re.sub("= ([349]26)", r"= 1\1", texts[1]))
    group = '[[groups]]\nname = "{0}"\nconfig = "{0}.toml"\nslots = "{1}"\n'
    Path("groups.toml").write_text(group.format("east", "0-8191") + group.format("west", "8192-16383"))
    assert run("up", "-c", "groups.toml").exit_code == 42
    assert FakeSupervisor.commands == {
        f"{name}/alpha": [*SERVE, "--config", f"{name}.toml", "--name", "alpha"] for name in ("east", "west")
    }
    Path("groups.toml").write_text(group.format("east", "0-8191"))
    result = run("up", "-c", "groups.toml")
    assert result.exit_code == 2
    assert "groups.toml: slots 8192-16383 belong to no group" in result.stderr


def test_json_stays_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    result = run("up", "--log-format", "json")
    assert FakeSupervisor.commands["bravo"] == [*SERVE, "--log-format", "json", "--name", "bravo"]
    assert [json.loads(line) for line in result.stderr.splitlines()] == [
        {"replica": None, "message": f"{up.NOT_AGAIN} {up.STOP_GRACE:g}"},
        {"replica": "alpha", "message": "a line"},
    ]
    capsys.readouterr()
    for line in ('{"message": "hello"}', "12", "{", "Fatal Python error"):
        up.json_printer("alpha", line)
    shown = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    messages = ("12", "{", "Fatal Python error")
    assert shown == [{"message": "hello"}, *({"replica": "alpha", "message": text} for text in messages)]


def test_names_are_coloured_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show = up.printer(["alpha", "bo"], coloured=True)
    show("alpha", "one")
    show("bo", "two")
    show(None, "three")
    assert (
        capsys.readouterr().err == "\x1b[36malpha | \x1b[0mone\n\x1b[33mbo    | \x1b[0mtwo\nup    | three\n"
    )


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"),
    [(True, "", True), (True, "1", False), (False, "", False)],
)
def test_when_colours_are_wanted(
    monkeypatch: pytest.MonkeyPatch, no_color: str, *, terminal: bool, coloured: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert up._wants_colours() is coloured
