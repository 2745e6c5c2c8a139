"""A program of the next level, pretended: processes with this directory in PYTHONPATH know one more than there is."""

from __future__ import annotations

from epaxos import version

version.NEWEST += 1  # type: ignore[misc]  # of a program that will be
