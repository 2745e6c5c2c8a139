from __future__ import annotations

import configparser
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import click
import pytest
from click.testing import Result

from epaxos.actors import process
from epaxos.cli.failures import Exit, exit_code
from epaxos.cli.main import ENTRIES, main
from epaxos.cli.pages import keep_lists
from epaxos.errors import (
    Busy,
    Closed,
    ConfigError,
    EpaxosError,
    InvariantError,
    NoAnswer,
    OperationFailed,
    Refused,
)
from epaxos.version import __version__

Run = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[3]


def pages(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words before --help of every help page."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from pages(found, (*path, name))


def run_python(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    return done.stdout.decode()


@pytest.mark.parametrize("words", [["--version"], ["-V"]])
def test_version(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"epaxos {__version__}\n", "")


@pytest.mark.parametrize("path", list(pages()), ids=" ".join)
def test_every_help_page_is_complete(run: Run, path: tuple[str, ...]) -> None:
    result = run(*path, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == run(*path, "-h").stdout
    assert result.stdout.startswith(f"Usage: {' '.join(('epaxos', *path))} ")
    assert "\\b" not in result.stdout, "the mark of click in a raw docstring"
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != "config"])
def test_every_command_has_examples_and_exit_codes(run: Run, name: str) -> None:
    page = run(name, "--help").stdout
    assert re.search(rf"^  Examples:\n    (.* )?epaxos {name}\b", page, re.MULTILINE)
    assert re.search(r"^  Exit codes:\n    0 ", page, re.MULTILINE)


def test_help_lists_all_commands_with_what_they_do(run: Run) -> None:
    page = run("--help").stdout
    for name, entry in ENTRIES.items():
        assert re.search(rf"^  {name} +{re.escape(entry.purpose)}$", page, re.MULTILINE)


def test_without_arguments_the_help_goes_to_stderr(run: Run) -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == run("--help").stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["gte", "key"], "epaxos: no command 'gte'; did you mean \"get\"? (see epaxos --help)"),
        (["--verbose"], "epaxos: No such option '--verbose'"),
        (["get"], "epaxos get: Missing argument 'KEY' (see epaxos get --help)"),
        (
            ["get", "key", "--timeout", "0s"],
            "found '0s'; allowed: a duration above 0 (see epaxos get --help)",
        ),
        (
            ["get", "key", "--timeout", "5k"],
            "found '5k'; allowed: a duration like 500ms, 10s or 1m30s; a number alone is seconds",
        ),
        (["up", "--uptime", "long"], "epaxos up: Invalid value for '--uptime': found 'long'; allowed: a "),
        (["up", "--log-level", "loud"], "'debug', 'info', 'warning', 'error'"),
        (["get", "-c", "none.toml", "key"], "epaxos: none.toml: cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(run: Run, words: list[str], line: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert line in result.stderr
    assert result.stderr.count("\n") == 1


def test_each_problem_of_a_configuration_gets_a_line(run: Run) -> None:
    Path("epaxos.toml").write_text("max_batch = 0\nmailbox = 0\n")
    result = run("get", "key")
    assert result.exit_code == 2
    assert [line.split(": found")[0] for line in result.stderr.splitlines()] == [
        "epaxos: epaxos.toml: max_batch",
        "epaxos: epaxos.toml: mailbox",
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no"), 2),
        (Refused("no"), 2),
        (NoAnswer("no"), 3),
        (Busy("no"), 3),
        (Closed("no"), 3),
        (OperationFailed("no"), 1),
        (InvariantError("no"), 1),
    ],
)
def test_exit_codes_of_errors(error: EpaxosError, code: int) -> None:
    assert exit_code(error) == code


def run_raising(run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Result:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(process, "run_replica", fail)
    return run("serve", "-n", "alpha")


def test_an_error_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_raising(run, monkeypatch, NoAnswer("nobody is there"))
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", "epaxos: nobody is there\n")


def test_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_raising(run, monkeypatch, KeyboardInterrupt())
    assert (result.exit_code, result.output.strip()) == (Exit.INTERRUPTED, "")


def test_a_fault_of_the_program_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ZeroDivisionError("a fault")
    assert run_raising(run, monkeypatch, error).exception is error


def test_nobody_reads_what_is_printed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "epaxos", "config", "keys"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (Exit.PIPE, b"")


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_the_command_itself_imports_no_library_but_click(words: list[str]) -> None:
    code = (
        "import sys\nfrom epaxos.cli.main import main\n"
        f"try: main({words})\nexcept SystemExit: print('|', *sys.modules)"
    )
    imported = run_python(code).split("|")[1].split()
    assert "click" in imported
    assert not {"zmq", "msgpack", "rich", "pykka", "toml", "asyncio", "epaxos.config"} & set(imported)


@pytest.mark.parametrize(
    ("command", "needs", "extra"),
    [
        ("bench", "hdrh", "bench"),
        ("serve", "uvicorn", "server"),
        ("up", "uvicorn", "server"),
        ("status", "rich", "server"),
    ],
)
def test_what_needs_more_than_a_client_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, needs: str, extra: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == needs else find(name))
    result = run(command)
    assert (result.exit_code, result.stdout) == (2, "")
    advice = f"pip install 'epaxos[{extra}]'"
    assert result.stderr == f"epaxos: {command} needs what is not installed here ({needs}): {advice}\n"
    assert run("get", "--help").exit_code == 0


def test_the_extras_are_those_of_the_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for entry in ENTRIES.values():
        if entry.needs:
            lines = setup["options.extras_require"][entry.extra].split("\n")[1:]
            packages = {line.split()[0].replace("-", "_") for line in lines}
            assert {{"hdrh": "hdrhistogram"}.get(name, name) for name in entry.needs} <= packages


def test_what_every_client_has_needs_no_extra() -> None:
    extra = {name for entry in ENTRIES.values() for name in entry.needs}
    every = {entry.module for entry in ENTRIES.values() if not entry.needs}
    needs = {entry.module: set(entry.needs) for entry in ENTRIES.values() if entry.needs}
    clients = ("epaxos.client.blocking", "epaxos.client.asynchronous")
    for modules, allowed in [((*sorted(every), *clients), set()), *(((m,), n) for m, n in needs.items())]:
        imported = run_python(f"import sys, {', '.join(modules)}; print(*sys.modules)").split()
        assert set(imported) & extra <= allowed, modules


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (
            "put k -5",
            "No such option '-5'; if that is no option but a value, say -- before it: epaxos put -- KEY VALUE",
        ),
        ("cas --absemt k v", "No such option '--absemt'. Did you mean '--absent'? (see"),
        ("status --foo", "No such option '--foo' (see epaxos status --help)"),
    ],
)
def test_what_begins_with_a_dash_gets_a_hint(run: Run, words: str, hint: str) -> None:
    result = run(*words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert hint in result.stderr


@pytest.mark.parametrize(
    ("module", "libraries"),
    [
        ("epaxos.cli.store", {"rich", "pykka", "prometheus_client", "asyncio"}),
        ("epaxos.cli.up", {"rich", "pykka", "prometheus_client", "zmq"}),
        ("epaxos.cli.serve", {"rich", "epaxos.groups", "epaxos.bench"}),
    ],
)
def test_a_command_imports_what_it_needs(module: str, libraries: set[str]) -> None:
    imported = run_python(f"import sys, {module}; print(*sys.modules)").split()
    assert not libraries & set(imported)


def test_lists_are_kept_and_paragraphs_are_not() -> None:
    text = "One\n    two.\n\n    A list:\n      a\n      b\n\n    End."
    assert keep_lists(text) == "One\ntwo.\n\n\b\nA list:\n  a\n  b\n\nEnd."


def test_an_interrupt_while_modules_are_imported_has_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "epaxos", "status"], env=environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
