"""A copy of the repository in which the commands of a document can be run.

Its clusters listen on free ports: every port of `conf/` is replaced by another, in the configuration files
and in the commands, so that documents can be tested beside one another and beside a running cluster.

A line that is the command `epaxos` and its words, with nothing for the shell to do, and a program, run as forks of a
process that has imported the package (`epaxos.testing.nursery`): else most of what a document takes would be imports.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from epaxos.testing.nursery import IS_POSSIBLE, Fork, nursery
from live_cluster import PORT_KEYS, ROOT, Ports

PROGRAMS = Path(sys.executable).parent
COMMAND_TIMEOUT = 120.0  # seconds for one command
START_TIMEOUT = 90.0  # seconds for a cluster to be ready on a busy machine
STOP_TIMEOUT = 15.0  # seconds for a command to end after Ctrl-C
QUIET = 1.0  # a background command that has printed nothing for so many seconds is under way
CLUSTER = "conf/local.toml"
DATA = "conf/epaxos-data"  # where its replicas keep their data, in the copy
PLAIN = re.compile(
    r"""(\.venv/bin/)?epaxos [\w ./:,=@%+"'-]*"""  # quotes apart, a shell leaves that alone
    """|python -c '([^']|'"'"')*'"""  # as `shlex.quote` writes a program
)
INTERRUPTED = frozenset({0, 130, -signal.SIGINT})  # how a command may end after Ctrl-C


class Background:
    """A command that runs beside others, with all it prints in a file."""

    def __init__(self, command: str, space: Workspace, kind: int = 0) -> None:
        self.command = command
        self._log = space.directory / f".background-{time.monotonic_ns()}.log"
        with self._log.open("wb") as output:
            self._process = space.start(command, output, kind)

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def wait_until_under_way(self) -> None:
        """Wait until it has printed something and then nothing more for a while."""
        deadline = time.monotonic() + START_TIMEOUT
        size, since = 0, time.monotonic()
        while time.monotonic() < deadline and not (size and time.monotonic() - since > QUIET):
            self.check_alive()
            time.sleep(0.1)
            if self._log.stat().st_size != size:
                size, since = self._log.stat().st_size, time.monotonic()

    def check_alive(self) -> None:
        """Fail if it has ended."""
        status = self._process.poll()
        assert status is None, f"`{self.command}` ended with status {status}:\n{self.printed}"

    def interrupt(self) -> None:
        """Press Ctrl-C, and fail if it does not end by itself."""
        self.press()
        self.see_end()

    def press(self) -> None:
        """Press Ctrl-C."""
        self.check_alive()
        os.killpg(self._process.pid, signal.SIGINT)

    def see_end(self) -> None:
        """Fail if it does not end by itself after that."""
        try:
            status = self._process.wait(STOP_TIMEOUT)
        finally:
            self.kill()
        assert status in INTERRUPTED, f"`{self.command}` ended with status {status}:\n{self.printed}"

    def kill(self) -> None:
        """End it, and whatever it has started, if anything is left."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Workspace:
    """The copy, and the cluster and background commands that run in it.

    directory  the copy
    temporary  where its commands put temporary files
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "epaxos"
        self.temporary = directory / "temporary"
        copy_repository(self.directory)
        share_bytecode(self.directory)
        self._ports = self._move_ports()
        self._environment = self._make_environment(directory)
        self._cluster: list[Background] = []
        self._background: list[Background] = []

    def _move_ports(self) -> dict[str, str]:
        files = [file for file in (self.directory / "conf").rglob("*") if file.is_file()]
        clusters = [tomllib.loads(file.read_text()) for file in files if file.suffix == ".toml"]
        replicas = [replica for cluster in clusters for replica in cluster.get("replicas", [])]
        used = sorted({str(replica[key]) for replica in replicas for key in PORT_KEYS})
        self._reserved = Ports(len(used))
        ports = dict(zip(used, map(str, self._reserved.numbers), strict=True))
        for file in files:
            file.write_text(replace_words(file.read_text(), ports))
        return ports

    def _make_environment(self, directory: Path) -> dict[str, str]:
        home = directory / "home"
        home.mkdir()
        self.temporary.mkdir()
        if (self.directory / CLUSTER).exists():  # what commands without --config find
            shutil.copy(self.directory / CLUSTER, home / ".epaxos.toml")
        if not (PROGRAMS / "epaxos").exists():  # the package is importable but not installed
            program = home / "epaxos"
            run = "import sys; from epaxos.cli.main import main; sys.exit(main())"
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{run}" "$@"\n')
            program.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EPAXOS_")}
        path = os.pathsep.join([str(PROGRAMS), str(home), os.environ["PATH"]])
        return kept | {
            "HOME": str(home),
            "TMPDIR": str(self.temporary),  # a demo that is killed cannot tidy up
            "PATH": path,
            "PYTHONPATH": str(self.directory),
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }

    def share_environment(self) -> None:
        """Let `tools/…` here use the virtual environment of the repository, made ready first."""
        subprocess.run([ROOT / "tools" / "setup", "--dev"], check=True, timeout=300)
        link = self.directory / ".venv"
        if not link.is_symlink():
            link.symlink_to(ROOT / ".venv")

    def start(self, command: str, output: IO[bytes], kind: int = 0) -> subprocess.Popen[bytes] | Fork:
        """Start a shell command, or as a fork of this `kind` what is none."""
        plain = self.moved(command)
        if not plain.startswith("python "):
            plain = plain.replace("\\\n", "")
        if not IS_POSSIBLE or not PLAIN.fullmatch(plain):
            return self.popen(command, output=output)
        forks = nursery(os.environ, kind)
        fork = forks.start(shlex.split(plain)[1:], output, self._environment, self.directory)
        fork.stdin.close()
        return fork

    def popen(self, command: str, *, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start a shell command in a session of its own, so that all of it can be ended."""
        return subprocess.Popen(
            ["bash", "-c", self.moved(command)],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def moved(self, text: str) -> str:
        """The text with the ports of the document replaced by those of this copy."""
        return replace_words(text, self._ports)

    def run(self, command: str, timeout: float = COMMAND_TIMEOUT) -> tuple[int, str]:
        """Run a shell command to its end; its exit status and all it printed."""
        with TemporaryFile() as output:
            process = self.start(command, output)
            try:
                status: int | None = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = None
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            output.seek(0)
            printed = output.read().decode(errors="replace")
        assert status is not None, f"`{command}` did not end in {timeout:.0f} s:\n{printed}"
        return status, printed

    def start_cluster(self) -> None:
        """Make sure that the cluster of `conf/local.toml` runs; it begins without data."""
        self.stop_background()
        if not self._cluster:
            self._remove_data()
            replicas = tomllib.loads((self.directory / CLUSTER).read_text())["replicas"]
            for kind, replica in enumerate(replicas):
                serve = f"epaxos serve -c {CLUSTER} -n {replica['name']}"
                self._cluster.append(Background(serve, self, kind))
            deadline = time.monotonic() + START_TIMEOUT
            for started, replica in zip(self._cluster, replicas, strict=True):
                while not is_healthy(replica["host"], replica["metrics_port"]):
                    started.check_alive()
                    assert time.monotonic() < deadline, f"the cluster is not ready:\n{started.printed}"
                    time.sleep(0.05)

    def stop_cluster(self) -> None:
        """Make sure that no cluster runs; what it held is gone."""
        if self._cluster:
            for replica in self._cluster:
                replica.press()
            while self._cluster:
                self._cluster[-1].see_end()
                self._cluster.pop()
            self._remove_data()

    def _remove_data(self) -> None:
        if (self.directory / DATA).exists():
            shutil.rmtree(self.directory / DATA)

    def start_background(self, commands: Iterable[str]) -> None:
        """Start commands that run until the next cluster or background block, or the end."""
        self.stop_cluster()
        self.stop_background()
        for command in commands:
            self._background.append(Background(command, self))
            self._background[-1].wait_until_under_way()

    def stop_background(self) -> None:
        """Press Ctrl-C in each background command, the last one first."""
        while self._background:
            self._background[-1].interrupt()
            self._background.pop()

    def finish(self) -> None:
        """Press Ctrl-C in everything that runs, and fail if something does not end properly."""
        self.stop_background()
        self.stop_cluster()

    def close(self) -> None:
        """Kill what a failure has left."""
        for command in [*self._background, *self._cluster]:
            command.kill()
        self._reserved.close()


def copy_repository(copy: Path) -> None:
    """Copy the repository by `cp`, which takes a quarter of the time of Python for so many files."""
    left_out = re.compile(r"\.git|\.venv|\.hypothesis|\..*_cache|conf")
    copy.mkdir()
    copied = [entry for entry in ROOT.iterdir() if not left_out.fullmatch(entry.name)]
    subprocess.run(["cp", "-Rp", *copied, copy], check=True)
    shutil.copytree(ROOT / "conf", copy / "conf", ignore=shutil.ignore_patterns(Path(DATA).name))


def share_bytecode(copy: Path) -> None:
    """Let a copy of the repository use the bytecode of the repository where that is kept apart (`tests/conftest.py`).

    Else each process of each copy compiles all that it imports. Files of a copy are as old as they are here, and
    bytecode of one that was changed is not used.
    """
    prefix = os.environ.get("PYTHONPYCACHEPREFIX")
    if prefix:
        kept, here = (Path(prefix, *place.resolve().parts[1:]) for place in (copy, ROOT))
        here.mkdir(parents=True, exist_ok=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.symlink_to(here, target_is_directory=True)


def replace_words(text: str, words: dict[str, str]) -> str:
    """Replace whole words."""
    if not words:
        return text
    return re.sub(rf"\b(?:{'|'.join(words)})\b", lambda match: words[match[0]], text)


def is_healthy(host: str, port: int) -> bool:
    """Whether a replica's health check says that it is well."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
