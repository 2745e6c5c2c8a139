from __future__ import annotations

import resource
from collections.abc import Callable

import pytest

from epaxos.actors.sockets import DESCRIPTORS, raise_limit

INFINITY = resource.RLIM_INFINITY


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[tuple[int, int]]]:
    """Pretend that these are the limits; what they are set to."""

    def pretend(soft: int, hard: int) -> list[tuple[int, int]]:
        limits = [(soft, hard)]
        monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
        raise_limit()
        return limits[1:]

    return pretend


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [
        (1024, 4096, [(4096, 4096)]),
        (1024, INFINITY, [(DESCRIPTORS, INFINITY)]),
        (1024, 2 * DESCRIPTORS, [(DESCRIPTORS, 2 * DESCRIPTORS)]),
        (4096, 4096, []),
        (INFINITY, INFINITY, []),
        (2 * DESCRIPTORS, INFINITY, []),
    ],
)
def test_the_soft_limit_is_raised_to_what_the_system_allows(
    limits: Callable[[int, int], list[tuple[int, int]]], soft: int, hard: int, then: list[tuple[int, int]]
) -> None:
    assert limits(soft, hard) == then


def test_a_limit_that_cannot_be_raised_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 20))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_limit()
    (line,) = caplog.messages
    assert line == (
        "file descriptors: the limit of 10 cannot be raised to 20: not allowed to raise maximum limit"
    )
