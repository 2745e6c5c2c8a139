"""What state a virtual environment is in, and that runs at the same time wait for one another."""

from __future__ import annotations

import fcntl
import json
import sys
import threading
from pathlib import Path

import pytest

import environment


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that looks as if the package without development tools was installed in it."""
    venv = tmp_path / ".venv"
    for name in ("setup.cfg", "pyproject.toml"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", venv)
    monkeypatch.setattr(environment, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(environment, "LOCK", venv / ".lock")
    monkeypatch.setattr(environment, "STARTED", venv / ".setup-started")
    monkeypatch.setattr(environment, "FINISHED", venv / ".setup-finished")
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").touch()
    (venv / "bin" / "python").symlink_to(sys.executable)
    finish(dev=False)
    return venv


def finish(*, dev: bool) -> None:
    environment.FINISHED.write_text(json.dumps(environment.wanted(dev=dev)))


def test_finished_environment_is_ready(venv: Path) -> None:
    assert environment.is_ready(dev=False)
    assert not environment.is_ready(dev=True)
    assert environment.unusable() is None
    assert venv.exists()


@pytest.mark.usefixtures("venv")
def test_development_environment_is_ready_for_both() -> None:
    finish(dev=True)
    assert environment.is_ready(dev=False)
    assert environment.is_ready(dev=True)


def test_changed_dependencies_are_installed_into_what_is_there(venv: Path) -> None:
    (venv.parent / "setup.cfg").write_text("changed")
    assert not environment.is_ready(dev=False)
    assert environment.unusable() is None


def test_interrupted_installation_is_begun_anew(venv: Path) -> None:
    (venv / ".setup-started").touch()
    assert environment.unusable() == "was left half made"


def test_environment_whose_python_is_gone_is_made_anew(venv: Path) -> None:
    (venv / "bin" / "python").unlink()
    assert not environment.is_ready(dev=False)
    assert environment.unusable() == "has a Python that does not run"


@pytest.mark.usefixtures("venv")
def test_moved_environment_is_made_anew() -> None:
    environment.FINISHED.write_text(json.dumps(environment.wanted(dev=False) | {"path": "/elsewhere"}))
    assert not environment.is_ready(dev=False)
    assert environment.unusable() == "was moved here from elsewhere"


def test_clearing_keeps_the_lock(venv: Path) -> None:
    (venv / ".lock").touch()
    environment.clear()
    assert [entry.name for entry in venv.iterdir()] == [".lock"]


def test_second_run_waits_for_the_first(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def build(*, dev: bool) -> None:
        steps.append("second installs")
        finish(dev=dev)

    monkeypatch.setattr(environment, "build", build)
    with (venv / ".lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: environment.prepare(dev=True).close())
        second.start()
        second.join(0.3)
        steps.append("first is done")
        fcntl.flock(first, fcntl.LOCK_UN)
        second.join(10)
    assert steps == ["first is done", "second installs"]


def test_failing_command_shows_its_output(venv: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (venv / "bin" / "fail").write_text("echo no route to the index; exit 7")
    with pytest.raises(environment.SetupError, match="failed with status 7"):
        environment.run(["sh", str(venv / "bin" / "fail")])
    assert "no route to the index" in capfd.readouterr().err
