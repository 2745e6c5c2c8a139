"""Makes the virtual environment `.venv` of this clone ready, then runs a program in it.

Only the standard library is there yet. Runs at the same time share one lock, a file in `.venv`: it is
held shared while the environment is used and alone while it is changed, so no run changes it under
another. A file with a digest of what was installed says that nothing is left to do; it is written last.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

from shared.processes import Children, Interrupted, catch_signals, pause

LIBRARY = Path(__file__).resolve().parent
ROOT = LIBRARY.parent.parent
VENV = (ROOT / ".venv").resolve()  # it may be a link; scripts in it hold its path
PYTHON = VENV / "bin" / "python"
LOCK = VENV / ".lock"
STARTED = VENV / ".setup-started"  # stands while the environment is being changed
FINISHED = VENV / ".setup-finished"  # what was installed, as JSON
LONGEST_WAIT = 900.0  # seconds for another run to be done with the environment


class SetupError(Exception):
    """The environment cannot be made; one line says why and what to do."""


def main(argv: Sequence[str]) -> int:
    """Prepare the environment and, if a program was named, become that program."""
    parser = argparse.ArgumentParser(prog="tools/setup", description="Make .venv ready.")
    parser.add_argument("--dev", action="store_true", help="with what tests and linters need")
    parser.add_argument("--run", nargs=argparse.REMAINDER, metavar="NAME", help="then run NAME of tools/lib")
    arguments = parser.parse_args(argv)
    catch_signals()
    try:
        lock = prepare(dev=arguments.dev)
    except Interrupted as interruption:
        report(str(interruption))
        return interruption.status
    except (SetupError, OSError) as error:
        report(str(error))
        return 1
    if arguments.run:
        become(arguments.run, lock)
    return 0


def report(text: str) -> None:
    """Say something to the user; standard output belongs to the program that runs later."""
    print(f"tools/setup: {text}", file=sys.stderr, flush=True)


def become(program: Sequence[str], lock: IO[str]) -> NoReturn:
    """Replace this process by a program and its arguments in the environment; the lock is held until that ends."""
    os.set_inheritable(lock.fileno(), True)
    environment = os.environ | {"PATH": f"{PYTHON.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    os.execve(PYTHON, [str(PYTHON), str(LIBRARY / "run.py"), *program], environment)


def prepare(*, dev: bool) -> IO[str]:
    """Make the environment ready; the lock file, held shared.

    Raises:
        SetupError: it cannot be done.
        Interrupted: a signal came first.
    """
    VENV.mkdir(exist_ok=True)
    lock = LOCK.open("w")
    for _ in range(3):  # going from alone to shared lets others in between: look again
        acquire(lock, fcntl.LOCK_SH)
        if is_ready(dev=dev):
            return lock
        acquire(lock, fcntl.LOCK_EX)
        if not is_ready(dev=dev):
            build(dev=dev)
    raise SetupError(f"{VENV} does not stay as it was installed; remove it and try again")


def acquire(lock: IO[str], mode: int) -> None:
    """Take the lock in `mode`, waiting for other runs.

    Raises:
        SetupError: they took too long.
    """
    deadline = time.monotonic() + LONGEST_WAIT
    told = False
    while True:
        try:
            fcntl.flock(lock, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SetupError(f"another run still uses {VENV} after {LONGEST_WAIT:.0f} s") from None
            if not told:
                report("waiting for another run that uses .venv")
                told = True
            pause(0.2)
        else:
            return


def wanted(*, dev: bool) -> dict[str, object]:
    """What is to be installed, and where."""
    declared = b"".join((ROOT / name).read_bytes() for name in ("setup.cfg", "pyproject.toml"))
    return {
        "declared": hashlib.sha256(declared).hexdigest(),
        "dev": dev,
        "path": str(VENV),
        "python": python_version(),
    }


def is_ready(*, dev: bool) -> bool:
    """Whether the environment holds what is declared, and its Python still runs."""
    try:
        found = json.loads(FINISHED.read_text())
    except (OSError, ValueError):
        return False
    want = wanted(dev=dev)
    return found in (want, want | {"dev": True})  # the development set holds the other


def python_version() -> str | None:
    """The version of the environment's Python, as "3.11"; None if it does not run."""
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([PYTHON, "-IS", "-c", program], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def build(*, dev: bool) -> None:
    """Bring the environment to what is declared, from whatever state an earlier run left it in."""
    if reason := unusable():
        report(f"{VENV} {reason}; making it anew")
        clear()
    STARTED.touch()
    FINISHED.unlink(missing_ok=True)
    began = time.monotonic()
    if not has_pip():
        create()
    report("installing epaxos" + (" and the development tools" if dev else ""))
    extras = "server,bench,dev" if dev else "server,bench"
    run([PYTHON, "-m", "pip", "install", "--editable", f"{ROOT}[{extras}]"])
    unfinished = FINISHED.with_suffix(".new")
    unfinished.write_text(json.dumps(wanted(dev=dev)))
    unfinished.replace(FINISHED)
    STARTED.unlink()
    report(f"done in {time.monotonic() - began:.0f} s")


def unusable() -> str | None:
    """Why the environment must be made anew; None if it can be brought up to date, or is empty."""
    if STARTED.exists():
        return "was left half made"
    version = python_version()
    if (VENV / "pyvenv.cfg").exists() and version is None:
        return "has a Python that does not run"
    if version and tuple(map(int, version.split("."))) < (3, 11):
        return f"has Python {version}, which is too old"
    try:
        found = json.loads(FINISHED.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return "was left half made"
    if found["path"] != str(VENV):
        return "was moved here from elsewhere"
    return None if found["python"] == version else f"was made with Python {found['python']}"


def clear() -> None:
    """Empty the environment, but for the lock that we hold."""
    for entry in VENV.iterdir():
        if entry == LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def has_pip() -> bool:
    """Whether the environment has a Python with pip."""
    try:
        done = subprocess.run([PYTHON, "-Im", "pip", "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def create() -> None:
    """Create the environment, with pip, by the Python that runs this.

    Some distributions ship Python without ensurepip; a pip beside it can then install another.

    Raises:
        SetupError: neither is there.
    """
    report(f"making .venv with Python {sys.version.split()[0]}")
    python = getattr(sys, "_base_executable", sys.executable)  # the running one may lie in .venv itself
    if importlib.util.find_spec("ensurepip"):
        run([python, "-m", "venv", VENV])
    elif importlib.util.find_spec("pip"):
        run([python, "-m", "venv", "--without-pip", VENV])
        run([sys.executable, "-m", "pip", "--python", PYTHON, "install", "pip"])
    else:
        raise SetupError(
            f"{sys.executable} has neither ensurepip nor pip; on Debian and Ubuntu, apt install python3-venv"
        )


def run(command: Sequence[str | Path]) -> None:
    """Run a command with its last line as progress; all it printed is shown only if it fails.

    Raises:
        SetupError: it failed.
    """
    with tempfile.TemporaryFile() as output, Children() as children:
        process = children.start(command, output=output, environment=pip_environment(), cwd=ROOT)
        while process.poll() is None:
            show_progress(output)
            pause(0.2)
        clear_progress()
        if process.returncode != 0:
            output.seek(0)
            sys.stderr.write(output.read().decode(errors="replace"))
            raise SetupError(f"failed with status {process.returncode}: {' '.join(map(str, command))}")


def pip_environment() -> Mapping[str, str]:
    """The environment variables for pip: no user site, no news about pip."""
    return os.environ | {
        "PIP_USER": "0",
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def show_progress(output: IO[bytes]) -> None:
    """Show the last line that a command printed, if a person is looking."""
    if not sys.stderr.isatty():
        return
    end = os.fstat(output.fileno()).st_size
    tail = os.pread(output.fileno(), 1000, max(0, end - 1000)).decode(errors="replace")
    lines = tail.strip().splitlines()
    if lines:
        width = shutil.get_terminal_size().columns - 3
        sys.stderr.write(f"\r\x1b[K  {lines[-1].strip()[:width]}")
        sys.stderr.flush()


def clear_progress() -> None:
    """Clear the line of `show_progress`."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
