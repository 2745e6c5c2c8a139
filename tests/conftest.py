"""What all processes of a run share: the seed of what is fresh in it, and bytecode.

The seed is printed at the end, and to be set to repeat the run. Bytecode is kept in the virtual environment: hundreds
of replicas start, and with PYTHONDONTWRITEBYTECODE each would compile all that it imports, for half of its start.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom

import pytest
from hypothesis import settings

FRESH_SEED = "FRESH_SEED"
LIVE, LONG = "integration", "simulation"  # directories
TOGETHER = 8  # neighbours
EXAMPLES = 50  # of a property that says nothing else

# Here, not in a fixture: the processes that share the tests among them inherit the environment.
os.environ.setdefault(FRESH_SEED, str(SystemRandom().randrange(10**6, 10**9)))
BYTECODE = Path(sys.prefix) / ".bytecode"
if sys.prefix != sys.base_prefix and os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(BYTECODE))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--times",
        type=int,
        default=1,
        metavar="N",
        help="how many times as many seeds sweeps have as they need, and properties examples",
    )


def pytest_configure(config: pytest.Config) -> None:
    """An example that takes long on a busy machine is no failure; pytest's own timeout ends what hangs."""
    examples = EXAMPLES * config.getoption("--times")
    settings.register_profile("ours", deadline=None, max_examples=examples)
    settings.load_profile("ours")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the tests among those who share them so that no core waits: the first begins with what computes.

    What starts processes waits most of its time, so the others begin with that, beside one another. The quick ones
    come last: who is through takes them from the end of what another has left. Neighbours stay together: some share a
    cluster.
    """
    hands = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if hands == 1:
        return
    live = [item for item in items if LIVE in item.path.parts]
    rest = [item for item in items if LIVE not in item.path.parts]
    rest.sort(key=lambda item: LONG not in item.path.parts)
    piles = [live[first : first + TOGETHER] for first in range(0, len(live), TOGETHER)]
    share = len(items) // hands  # as many as each is given at first
    first, rest = rest[:share], rest[share:]
    dealt = first
    for hand in range(hands - 1):
        begun = [item for pile in piles[hand :: hands - 1] for item in pile]
        left = max(share - len(begun), 0)
        dealt += begun + rest[:left]
        del rest[:left]
    items[:] = dealt + rest


def pytest_collection_finish() -> None:
    """What all tests and modules are made of stays to the end: no collection of garbage looks at it again."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"fresh seeds of the simulator: {FRESH_SEED}={os.environ[FRESH_SEED]}")


def pytest_unconfigure() -> None:
    """Drop the bytecode of copies of the repository: nobody runs them again."""
    shutil.rmtree(BYTECODE / Path(tempfile.gettempdir()).relative_to("/"), ignore_errors=True)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Who runs a tool in this process leaves no handler of it to the tests that come after."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        if handler is not signal.getsignal(number):
            signal.signal(number, handler)


@pytest.fixture
def times(pytestconfig: pytest.Config) -> int:
    """How many times as many seeds a sweep is to have as it needs."""
    found = pytestconfig.getoption("--times")
    assert isinstance(found, int)
    return found


@pytest.fixture
def fresh_seed() -> int:
    """A seed that is another one in every run."""
    return int(os.environ[FRESH_SEED])
