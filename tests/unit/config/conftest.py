from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from epaxos.config import default_replicas, load_config
from epaxos.config.rendering import render_file
from epaxos.errors import ConfigError

Problems = Callable[..., list[str]]

FILE = "epaxos.toml"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees a configuration of the machine it runs on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("CONFIG", "THRIFTY"):
        monkeypatch.delenv(f"EPAXOS_{name}", raising=False)


@pytest.fixture
def tables() -> str:
    """Three [[replicas]] tables, to put after other keys."""
    text = render_file("local", default_replicas(3))
    return text[text.index("\n[[replicas]]") :]


@pytest.fixture
def problems() -> Problems:
    """The lines of the error that a file, and an environment, get."""

    def problems(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        Path(FILE).write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_config(FILE, environ or {})
        return str(caught.value).split("\n")

    return problems
