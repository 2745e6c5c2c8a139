"""Programs of tests that need a network of their own: run as root of new namespaces, with a result as JSON."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from live_cluster import ROOT

_UNSHARE: Final = ("unshare", "--user", "--map-root-user", "--net", "--mount")
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_SUPPORT: Final = ROOT / "tests" / "support"


def has_namespaces() -> bool:
    """Whether this user may make a network, and mounts, of its own, and has the tools to shape it."""
    if not (shutil.which("ip") and shutil.which("ss")):
        return False
    try:
        return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


needs_namespaces = pytest.mark.skipif(not has_namespaces(), reason="this user may not make namespaces")


def run_apart(program: str, directory: Path) -> Any:
    """What a program of `tests/support` prints in namespaces of its own, given a directory."""
    done = subprocess.run(
        [*_UNSHARE, sys.executable, _SUPPORT / program, directory],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{_SUPPORT}"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def loopback_up() -> None:
    """In a new network: give it a loopback."""
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _GET_FLAGS, request))
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))
