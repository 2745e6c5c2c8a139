"""The `epaxos` command, which is `python -m epaxos` too."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; Ctrl-C ends it without a traceback also while its modules are imported."""
    try:
        from epaxos.cli.main import main as run  # noqa: PLC0415 - that is what takes the time

        run()
    except KeyboardInterrupt:
        pass
    sys.exit(130)


if __name__ == "__main__":
    main()
