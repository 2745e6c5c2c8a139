"""`python -m epaxos`: the `epaxos` command."""

from __future__ import annotations

from epaxos.cli.main import main

if __name__ == "__main__":
    main()
