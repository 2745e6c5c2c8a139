"""Transactions with real resources that are killed: the example of docs/commit.md, killed at every step."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from documents import read_blocks
from live_cluster import ROOT

DRIVER = '''
import functools, os, pickle, signal, sys, threading
from pathlib import Path
from epaxos.commit import Manager

code, folder = compile(sys.argv[1], "example", "exec"), Path(sys.argv[2])
example = {"__name__": "example"}
exec(code, example)
example["Manager"] = functools.partial(Manager, patience=0.001)


class FileVotes:
    """Registers that outlive the shop, as those of a cluster do."""

    def __init__(self, file):
        self.file, self.lock = file, threading.Lock()

    def change(self, step):
        with self.lock:
            values = pickle.loads(self.file.read_bytes()) if self.file.exists() else {}
            result = step(values)
            self.file.with_suffix(".new").write_bytes(pickle.dumps(values))
            self.file.with_suffix(".new").rename(self.file)
            return result

    def swap(self, key, expected, new, *, first=False):
        def step(values):
            if values.get(key) == expected:
                values[key] = new
            return values[key]

        return self.change(step)

    def read(self, key):
        return self.change(lambda values: values.get(key))

    def remove(self, keys):
        self.change(lambda values: [values.pop(key, None) for key in keys])


def shop(place):
    return example["Shop"](FileVotes(place / "votes"), place)


class Killed:
    """Kills this process at its step number `left`: a line of the resources, or an effect of the manager's."""

    def __init__(self, left):
        self.left = left

    def step(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def trace(self, frame, event, argument):
        if frame.f_code.co_filename != "example":
            return None
        if event == "line":
            self.step()
        return self.trace

    def perform(self, *arguments):
        self.step()
        result = perform(*arguments)
        self.step()
        return result


perform = Manager.perform


def in_child(action):
    child = os.fork()
    if child == 0:
        action()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def first_run(place, left):
    opened = shop(place)
    killed = Killed(left)
    Manager.perform = lambda *arguments: killed.perform(*arguments)
    threading.settrace(killed.trace)
    sys.settrace(killed.trace)
    opened.order("letter")


def second_run(place, told):
    opened = shop(place)
    left = [transaction for resource in (opened.stock, opened.letters) for transaction in resource.pending()]
    assert not left, left
    gone, letters = 2 - opened.stock.free(), len(list(opened.letters.folder.glob("*.txt")))
    assert gone == letters, (gone, letters)
    told.write_text(str(letters))


counts = {"0": 0, "1": 0}
for left in range(1, 1000):
    place, told = folder / str(left), folder / f"{left}.txt"
    place.mkdir()
    status = in_child(lambda: first_run(place, left))
    assert in_child(lambda: second_run(place, told)) == 0, left
    counts[told.read_text()] += 1
    if status != signal.SIGKILL:
        break
print(left, counts["0"], counts["1"], status)
'''


def test_the_example_survives_a_kill_at_every_step() -> None:
    block = next(block for block in read_blocks(ROOT / "docs" / "commit.md") if block.language == "python")
    memory = Path("/dev/shm")  # a kill does not ask for what is synced
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        command = [sys.executable, "-c", DRIVER, block.commands[0].text, folder]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    steps, aborted, committed, status = map(int, ran.stdout.split())
    assert status == 0  # the last run was not killed any more
    assert steps > 40
    assert min(aborted, committed) > 5
