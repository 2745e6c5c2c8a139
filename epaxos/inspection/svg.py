"""Drawing a piece of the dependency graph: a lane for each row, a column for each slot that occurs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from html import escape
from typing import Final, NamedTuple

from epaxos.inspection.graph import Graph, Node
from epaxos.inspection.wording import place_name, row_name
from epaxos.protocol.ids import InstanceId

_COLUMN: Final = 92
_LANE: Final = 78
_LEFT: Final = 60
_TOP: Final = 66
_WIDTH: Final = 80
_HEIGHT: Final = 30
"""Pixels; the last two are of a node."""

_COLOURS: Final[Mapping[str, str]] = {
    "unknown": "#ffffff",
    "initial": "#f8d7da",
    "preaccepted": "#ffe08a",
    "accepted": "#ffbe76",
    "waiting": "#9ec5fe",
    "executed": "#b7e4c7",
    "dropped": "#e2e3e5",
}
"""Of each state, in the order of the legend."""

_STYLE: Final = (
    "text{font:12px sans-serif;fill:#222}.paper{fill:#fff}.lane{stroke:#ddd}"
    ".edge{fill:none;stroke:#666;marker-end:url(#tip)}.node{stroke:#444}.unknown,.dropped{stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){.paper{fill:#171e29}.lane{stroke:#333e50}.edge{stroke:#aab}.beside{fill:#cdd6e2}}"
)

_ARROW: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto"><path d="M0 0L8 4L0 8z" fill="#666"/></marker></defs>'
)


class _Point(NamedTuple):
    x: float
    y: float


def draw(graph: Graph, title: str) -> str:
    """The graph as an SVG document; an arrow points at what an instance depends on."""
    slots = sorted({node.place.slot for node in graph.nodes})
    columns = {slot: _LEFT + _COLUMN * index + _COLUMN / 2 for index, slot in enumerate(slots)}
    width = _LEFT + _COLUMN * max(len(slots), len(_COLOURS))
    height = _TOP + _LANE * graph.n + 40
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">'
    )
    parts = [
        head,
        f"<style>{_STYLE}</style>",
        _ARROW,
        f'<rect class="paper" width="{width}" height="{height}"/>',
        f'<text class="beside" x="10" y="22">{escape(title)}</text>',
        *_lanes(graph.n, width),
        *(
            f'<text class="beside" x="{x}" y="{_TOP - 12}" text-anchor="middle">{slot}</text>'
            for slot, x in columns.items()
        ),
        *(_edge(_point(columns, place), _point(columns, other)) for place, other in graph.edges),
        *(_box(node, _point(columns, node.place)) for node in graph.nodes),
        *_legend({node.state for node in graph.nodes}, height - 26),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _point(columns: Mapping[int, float], place: InstanceId) -> _Point:
    return _Point(columns[place.slot], _TOP + _LANE * (place.row + 0.5))


def _lanes(n: int, width: float) -> Iterator[str]:
    for row in range(n):
        y = _TOP + _LANE * (row + 0.5)
        yield f'<line class="lane" x1="{_LEFT}" y1="{y}" x2="{width}" y2="{y}"/>'
        yield f'<text class="beside" x="20" y="{y + 4}" font-weight="bold">{row_name(row)}</text>'


def _edge(start: _Point, end: _Point) -> str:
    """A curve from one box to the border of the other; within a lane it passes above what stands between."""
    if start.y == end.y:
        top = start.y - _HEIGHT / 2
        bow = top - min(_LANE / 2 - _HEIGHT / 2 - 2, 8 + abs(start.x - end.x) / 20)
        return f'<path class="edge" d="M{start.x} {top}Q{(start.x + end.x) / 2} {bow} {end.x} {top}"/>'
    side = _HEIGHT / 2 if end.y > start.y else -_HEIGHT / 2
    middle = (start.y + end.y) / 2
    return (
        f'<path class="edge" d="M{start.x} {start.y + side}C{start.x} {middle} {end.x} {middle} '
        f'{end.x} {end.y - side}"/>'
    )


def _box(node: Node, at: _Point) -> str:
    return (
        f"<g><title>{escape(node.note)}</title>{_rectangle(node.state, at.x, at.y)}"
        f'<text x="{at.x}" y="{at.y + 4}" text-anchor="middle">{place_name(node.place)}</text></g>'
    )


def _legend(states: Collection[str], y: float) -> Iterator[str]:
    """Of those that occur."""
    for index, state in enumerate(state for state in _COLOURS if state in states):
        x = _LEFT + _COLUMN * (index + 0.5)
        yield _rectangle(state, x, y)
        yield f'<text x="{x}" y="{y + 4}" text-anchor="middle">{state}</text>'


def _rectangle(state: str, x: float, y: float) -> str:
    left, top = x - _WIDTH / 2, y - _HEIGHT / 2
    return (
        f'<rect class="node {state}" x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" '
        f'fill="{_COLOURS[state]}"/>'
    )
