from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write what scenarios do now into their files")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    # Pytest does not know the option when it finds this file only while collecting.
    return bool(request.config.getoption("--rewrite", default=False))
