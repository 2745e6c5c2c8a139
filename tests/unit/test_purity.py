"""Consensus draws no number from a generator but the one it was given.

The import contract in pyproject.toml forbids it everything else that is not a value; the module `random` it
needs for the type of that generator.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import epaxos.protocol

MODULES = sorted(Path(epaxos.protocol.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: "-".join(module.parts[-2:]))
def test_random_serves_only_as_a_type(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            assert [name.name for name in node.names] == ["Random"]
        if isinstance(node, ast.Import):
            assert "random" not in [name.name for name in node.names]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "Random"
