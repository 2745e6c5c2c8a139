"""Writes the reference of the Python API as pages of HTML, made by pdoc from the docstrings of what is public.

    tools/reference                 into `build/reference`
    tools/reference --to DIRECTORY

It needs no network. Ends with status 1 if pdoc has something to complain of.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

import pdoc

ROOT: Final = Path(__file__).resolve().parents[2]
MODULES: Final = ("epaxos", "epaxos.testing", "epaxos.errors", "epaxos.commit", "epaxos.registers")
"""What programs import; all else may change."""


def main(argv: Sequence[str]) -> int:
    """Write the pages, and say what is wrong with them; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tools/reference", description="Write the reference of the Python API as pages of HTML."
    )
    parser.add_argument(
        "--to", type=Path, default=ROOT / "build" / "reference", help="directory (default: build/reference)"
    )
    directory = parser.parse_args(argv).to
    wrong = write_reference(directory)
    for text in wrong:
        print(f"tools/reference: {text}", file=sys.stderr)
    print(f"written: {directory / 'index.html'}")
    return 1 if wrong else 0


def write_reference(directory: Path) -> list[str]:
    """Write the pages; returns what pdoc complains of."""
    for name in MODULES:
        module = import_module(name)
        for public in module.__all__ if hasattr(module, "__all__") else ():
            getattr(module, public)  # pdoc sees what has been imported
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # what others in this process have left open
        pdoc.render.configure(search=False, show_source=False, footer_text="epaxos")
        hidden = rf"!epaxos\.(?!({'|'.join(name.partition('.')[2] for name in MODULES[1:])})$).*"
        pdoc.pdoc(*MODULES, hidden, output_directory=directory)
    # What it cannot evaluate, of annotations of named tuples, it shows as it is written.
    return [text for text in (str(warning.message) for warning in caught) if "type annotation" not in text]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
