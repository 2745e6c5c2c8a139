from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("statement", "spared"),
    [
        ("import epaxos", {"epaxos.client", "epaxos.config", "zmq", "asyncio"}),
        ("from epaxos.protocol.epaxos import messages", {"epaxos.client", "zmq", "asyncio"}),
        ("from epaxos import Client", {"epaxos.client.asynchronous", "asyncio", "epaxos.actors"}),
        ("from epaxos import AsyncClient", {"epaxos.client.blocking", "epaxos.actors"}),
        ("from epaxos.client.session.core import Session", {"zmq", "asyncio"}),
    ],
)
def test_an_import_does_not_pay_for_what_it_does_not_need(statement: str, spared: set[str]) -> None:
    program = f"{statement}; import sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert spared.isdisjoint(result.stdout.split())
