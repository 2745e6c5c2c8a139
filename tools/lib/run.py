"""Runs one of the programs beside it: `run.py NAME ARGUMENT …` is `python -m NAME ARGUMENT …` from any directory.

Python puts the folder of a script first on its path, so the packages beside this file can be imported, and no
variable of the environment has to tell the processes that they start.
"""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
