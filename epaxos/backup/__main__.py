"""Write a backup of a data directory to standard output, for a replica that was asked for one over HTTP.

Its only argument is JSON: the directory, an epoch (null to take the last checkpoint as it is) and up to where
all must have executed in it, and for how many seconds to wait for that.
It ends when its standard input does, as whoever asked has then gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from epaxos.backup.saving import Moment, save
from epaxos.errors import EpaxosError
from epaxos.storage.reading import Reading


def main() -> int:
    """Write it; returns the exit code."""
    path, epoch, executed, patience = json.loads(sys.argv[1])
    wanted = None if epoch is None else Moment(epoch, tuple(executed))
    threading.Thread(target=_end_with_input, daemon=True).start()
    os.nice(5)  # the replica's work comes first
    try:
        with Reading(Path(path)) as reading:
            save(reading, sys.stdout.buffer, wanted, patience)
    except EpaxosError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
