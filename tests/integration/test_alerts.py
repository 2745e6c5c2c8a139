"""A real Prometheus evaluates every alert against a live cluster, and one fires and clears: `tools/alerts`."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from live_cluster import ROOT

pytestmark = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="Prometheus is not installed; Debian's package has that name"
)


def test_every_alert_is_evaluated_and_one_fires_and_clears_again() -> None:
    command = [sys.executable, str(ROOT / "tools" / "lib" / "run.py"), "alerts", "--first", "1"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "every expression evaluated, every metric found" in run.stdout
    assert "EpaxosReplicaDown: fired after" in run.stdout
