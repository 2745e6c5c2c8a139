"""Runs a program: `run.py NAME ARGUMENT …` is `python -m NAME ARGUMENT …` from any directory.

Python puts the folder of a script first on its path, so the packages beside this file can be imported, and no
variable of the environment has to tell the processes that they start. Those at the repository's root follow.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    del sys.argv[0]
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
