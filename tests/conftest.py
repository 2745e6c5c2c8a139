"""The seed from which a run of the tests draws what is fresh in it: printed at the end, and to be set to repeat it."""

from __future__ import annotations

import os
from random import SystemRandom

import pytest

FRESH_SEED = "FRESH_SEED"

# Here, not in a fixture: the processes that share the tests among them inherit the environment.
os.environ.setdefault(FRESH_SEED, str(SystemRandom().randrange(10**6, 10**9)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"fresh seeds of the simulator: {FRESH_SEED}={os.environ[FRESH_SEED]}")


@pytest.fixture
def fresh_seed() -> int:
    """A seed that is another one in every run."""
    return int(os.environ[FRESH_SEED])
