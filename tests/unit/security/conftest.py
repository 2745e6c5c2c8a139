from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from epaxos.config import Config, SecurityConfig, load_config
from epaxos.security.making import init_keys


@pytest.fixture
def secure(tmp_path: Path) -> Config:
    """A configuration of three replicas with keys."""
    keys = tmp_path / "keys"
    config = replace(
        load_config(None, environ={"HOME": str(tmp_path)}),
        security=SecurityConfig(str(keys), str(keys / "admin.key")),
    )
    init_keys(config, keys)
    return config
