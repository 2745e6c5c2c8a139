"""Draws the diagrams that the documents show, from runs of the simulator in which nothing is left to chance.

    tools/diagrams                 into `docs/pictures`
    tools/diagrams --into DIRECTORY

Fast path, slow path and recovery as space-time diagrams, and a dependency graph as `epaxos inspect --graph` draws it. A
test sees that those in the documents are the ones that this makes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from epaxos.inspection.graph import KEYS, Node, make_graph, reduced
from epaxos.inspection.svg import draw as draw_graph
from epaxos.inspection.wording import keys_text, place_name
from epaxos.simulation.picture.drawing import draw
from epaxos.simulation.picture.staged import STORIES, Ask, N, Story, play

PICTURES: Final = Path(__file__).resolve().parents[2] / "docs" / "pictures"

_SHOP: Final = Story(
    "What replica A has executed: three writes of one key at once depend on one another",
    [
        Ask(0, 0, "cart/7"),
        Ask(1, 0, "user/ann"),
        *(Ask(row, 8, "stock/3") for row in range(N)),
        Ask(2, 24, "stock/3"),
        Ask(0, 24, "cart/7"),
        Ask(1, 32, "stock/3"),
        Ask(0, 32, "user/ann"),
    ],
    [],
    50,
)


def pictures() -> Iterator[tuple[str, str]]:
    """Each picture: the name of its file, and its text."""
    for name, story in STORIES.items():
        yield f"{name}.svg", draw(play(story).around(()), N, story.title)
    records = play(_SHOP).records[0]
    nodes = [
        Node(
            place,
            "executed",
            f"{place_name(place)}: executed, seq {record.seq}",
            keys_text(record.orig, KEYS),
        )
        for place, record in sorted(records.items())
    ]
    edges = {place: reduced(record, records) for place, record in records.items()}
    yield "graph.svg", draw_graph(make_graph(N, nodes, records, edges, 0), _SHOP.title)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tools/diagrams", description="Draw the diagrams of the documents.")
    parser.add_argument("--into", type=Path, default=PICTURES, help="where they go  [docs/pictures]")
    directory = parser.parse_args(arguments).into
    for name, text in pictures():
        (directory / name).write_text(text, encoding="utf-8")
        print(directory / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
