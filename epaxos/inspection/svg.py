"""Drawing a piece of the dependency graph: a lane for each row, and from left to right the order of execution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from html import escape
from typing import Final, NamedTuple

from epaxos.inspection.graph import Graph, Node
from epaxos.inspection.wording import place_name, row_name
from epaxos.protocol.ids import InstanceId, Row

_COLUMN: Final = 124
_LEFT: Final = 60
_TOP: Final = 66
_WIDTH: Final = 96
_HEIGHT: Final = 38
_GAP: Final = 26
_NARROWEST: Final = 400
_CURVE: Final = 90
"""Pixels; of a node the width and the height, `_GAP` to the one below it."""

COLOURS: Final[Mapping[str, str]] = {
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
    "text{font:12px sans-serif;fill:#222}text.keys{font-size:11px;fill:#333}.paper{fill:#fff}.lane{stroke:#ddd}"
    ".edge{fill:none;stroke:#667;marker-end:url(#tip)}.cycle{stroke:#c0392b;stroke-dasharray:5 3}"
    ".node{stroke:#444}.unknown,.dropped{stroke-dasharray:4 3}text.tied{fill:#c0392b}"
    "@media(prefers-color-scheme:dark){.paper{fill:#171e29}.lane{stroke:#333e50}.edge{stroke:#aab}.cycle{stroke:#ff8b7d}"
    ".beside{fill:#cdd6e2}text.tied{fill:#ff8b7d}}"
)

_ARROW: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto"><path d="M0 0L8 4L0 8z" fill="#778"/></marker></defs>'
)


class _Point(NamedTuple):
    x: float
    y: float


class _Lane(NamedTuple):
    top: float
    height: float


def draw(graph: Graph, title: str) -> str:
    """The graph as an SVG document; an arrow points at what an instance depends on."""
    levels, lanes = _stacked(graph)
    points = {
        place: _Point(
            _LEFT + _COLUMN * (column + 0.5), lanes[place.row].top + (_HEIGHT + _GAP) * (levels[place] + 0.5)
        )
        for place, column in graph.columns.items()
    }
    states = {node.state for node in graph.nodes}
    columns = max(graph.columns.values(), default=0) + 1
    width = max(_LEFT + _COLUMN * max(columns, len(states) + bool(graph.cycles)), _NARROWEST)
    height = lanes[-1].top + lanes[-1].height + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:g}">',
        f"<style>{_STYLE}</style>",
        _ARROW,
        f'<rect class="paper" width="{width}" height="{height:g}"/>',
        f'<text class="beside" x="10" y="22">{escape(title)}</text>',
        f'<text class="beside" x="{_LEFT}" y="{_TOP - 18}">executes first</text>',
        f'<text class="beside" x="{width - 14}" y="{_TOP - 18}" text-anchor="end">last →</text>',
        *_lanes(lanes, width),
        *(
            _edge(points[place], points[other], "edge cycle" if graph.is_tied(place, other) else "edge")
            for place, other in graph.edges
        ),
        *(_box(node, points[node.place]) for node in graph.nodes),
        *_legend(states, height - 26),
    ]
    if graph.cycles:
        x = _LEFT + _COLUMN * len(states) + 14
        parts.append(f'<text class="tied" x="{x}" y="{height - 22:g}">cycle: by seq</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _stacked(graph: Graph) -> tuple[dict[InstanceId, int], list[_Lane]]:
    """How far below the first one of its row and column each node stands, and the lanes, which have room for that."""
    there: Counter[tuple[Row, int]] = Counter()
    levels = {}
    for node in graph.nodes:
        spot = (node.place.row, graph.columns[node.place])
        levels[node.place] = there[spot]
        there[spot] += 1
    lanes = []
    top = float(_TOP)
    for row in range(graph.n):
        deepest = max((count for spot, count in there.items() if spot[0] == row), default=1)
        lanes.append(_Lane(top, deepest * (_HEIGHT + _GAP)))
        top += lanes[-1].height
    return levels, lanes


def _lanes(lanes: Collection[_Lane], width: float) -> Iterator[str]:
    for row, (top, height) in enumerate(lanes):
        yield f'<line class="lane" x1="0" y1="{top:g}" x2="{width}" y2="{top:g}"/>'
        yield f'<text class="beside" x="20" y="{top + height / 2 + 4:g}" font-weight="bold">{row_name(row)}</text>'


def _edge(start: _Point, end: _Point, kind: str) -> str:
    """A curve from one box to another; along a lane it passes above what stands between."""
    if start.y == end.y and abs(start.x - end.x) > _COLUMN:
        top = start.y - _HEIGHT / 2
        bow = top - min(_GAP + 4, 14 + abs(start.x - end.x) / 16)
        return f'<path class="{kind}" d="M{start.x} {top}Q{(start.x + end.x) / 2} {bow:g} {end.x} {top}"/>'
    side = -_WIDTH / 2 if end.x < start.x else _WIDTH / 2
    begin, tip = start.x + side, end.x - side
    shift = 0 if kind == "edge" else 7 if side < 0 else -7  # the two ways of a cycle lie beside one another
    bend = min(_CURVE, abs(tip - begin) / 2) * (-1 if side < 0 else 1)
    return (
        f'<path class="{kind}" d="M{begin} {start.y + shift:g}C{begin + bend:g} {start.y + shift:g} '
        f'{tip - bend:g} {end.y + shift:g} {tip} {end.y + shift:g}"/>'
    )


def _box(node: Node, at: _Point) -> str:
    name = at.y - 3 if node.keys else at.y + 4
    keys = f'<text class="keys" x="{at.x}" y="{at.y + 12:g}" text-anchor="middle">{escape(node.keys)}</text>'
    return (
        f"<g><title>{escape(node.note)}</title>{_rectangle(node.state, at.x, at.y)}"
        f'<text x="{at.x}" y="{name:g}" text-anchor="middle" font-weight="bold">{place_name(node.place)}</text>'
        f"{keys if node.keys else ''}</g>"
    )


def _legend(states: Collection[str], y: float) -> Iterator[str]:
    """Of those that occur."""
    for index, state in enumerate(state for state in COLOURS if state in states):
        x = _LEFT + _COLUMN * (index + 0.5)
        yield _rectangle(state, x, y, 26)
        yield f'<text x="{x}" y="{y + 4:g}" text-anchor="middle">{state}</text>'


def _rectangle(state: str, x: float, y: float, height: float = _HEIGHT) -> str:
    left, top = x - _WIDTH / 2, y - height / 2
    return (
        f'<rect class="node {state}" x="{left:g}" y="{top:g}" width="{_WIDTH}" height="{height:g}" rx="6" '
        f'fill="{COLOURS[state]}"/>'
    )
