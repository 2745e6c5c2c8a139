"""Where a run was made: what a reader must know who compares its figures with others."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zmq

from epaxos.version import __version__


def describe_machine() -> dict[str, Any]:
    """The machine and what runs on it, by name; memory in GB, or None where the system does not tell."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": _memory(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "zeromq": zmq.zmq_version(),
        "epaxos": __version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    except (ValueError, OSError):
        return None
