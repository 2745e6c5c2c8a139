"""A space-time diagram as SVG."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from html import escape
from itertools import count
from math import atan2, degrees
from typing import Final

from epaxos.inspection.wording import place_name, row_name
from epaxos.simulation.picture.seen import Arrow, Mark, Shown

_LEFT: Final = 70
_RIGHT: Final = 150
_TOP: Final = 60
_LANE: Final = 150
_LINE: Final = 15
_LETTER: Final = 6.6
_BELOW: Final = 70
_NAMED: Final = 40
"""Arrows at most that bear their names."""

_WIDTH: Final = 760.0
"""Pixels for the time that is shown, without the gaps that are cut out."""

_PAUSE: Final = 0.25
"""A share of what is shown in which nothing happens is cut short."""

_CUT: Final = 46.0
"""Pixels that are left of it."""

COLOURS: Final = {
    "PreAccept": "#2f81f7",
    "PreAcceptOK": "#2f81f7",
    "Accept": "#d29922",
    "AcceptOK": "#d29922",
    "Commit": "#2da44e",
    "CommitRequest": "#2da44e",
    "Recover": "#cf222e",
    "RecoverOK": "#cf222e",
    "Validate": "#a475f9",
    "ValidateOK": "#a475f9",
    "Waiting": "#a475f9",
    "Prepare": "#cf222e",
    "Promised": "#cf222e",
    "Voted": "#d29922",
    "Forward": "#2f81f7",
    "Chosen": "#2da44e",
    "ChosenRequest": "#2da44e",
}
"""Of messages; a promise has the colour of what it answers, and is dashed."""

_OTHER: Final = "#8b949e"

_STYLE: Final = (
    "text{font:12px sans-serif;fill:#1f2328;paint-order:stroke;stroke:#fff;stroke-width:3px}.paper{fill:#fff}"
    ".life{stroke:#57606a;stroke-width:1.5}.name{font-weight:bold;font-size:14px}.mark{fill:#1f2328}"
    ".faint{fill:#59636e}.cut{stroke:#8b949e;stroke-dasharray:2 3}.message{fill:none;stroke-width:1.6}"
    ".answer{stroke-dasharray:6 3}.label{font-size:10.5px}@media(prefers-color-scheme:dark){.paper{fill:#0d1117}"
    "text,.mark{fill:#e6edf3}text{stroke:#0d1117}.life{stroke:#9198a1}.faint{fill:#9198a1}}"
)


class _Axis:
    """Where a moment stands; long times in which nothing happens are cut short."""

    def __init__(self, moments: Sequence[float]) -> None:
        self._moments = sorted(set(moments))
        gaps = [after - before for before, after in zip(self._moments, self._moments[1:], strict=False)]
        longest = _PAUSE * sum(sorted(gaps)[:-1]) if gaps else 0.0
        self.cuts = [index for index, gap in enumerate(gaps) if gap > longest > 0]
        shown = sum(gap for index, gap in enumerate(gaps) if index not in self.cuts)
        scale = _WIDTH / shown if shown else 1.0
        self._places = [float(_LEFT)]
        for index, gap in enumerate(gaps):
            self._places.append(self._places[-1] + (_CUT if index in self.cuts else gap * scale))

    @property
    def end(self) -> float:
        """Where the last moment stands."""
        return self._places[-1]

    def at(self, moment: float) -> float:
        """The place of a moment, between those of the known ones."""
        index = bisect_right(self._moments, moment) - 1
        if index < 0:
            return self._places[0]
        if index + 1 >= len(self._moments):
            return self._places[-1]
        before, after = self._moments[index : index + 2]
        share = (moment - before) / (after - before)
        return self._places[index] + share * (self._places[index + 1] - self._places[index])

    def gaps(self) -> Iterator[tuple[float, float, float]]:
        """What is cut short: from where to where, and how many seconds it is."""
        for index in self.cuts:
            yield (
                self._places[index],
                self._places[index + 1],
                self._moments[index + 1] - self._moments[index],
            )


def draw(shown: Shown, n: int, title: str) -> str:
    """The diagram of a cluster of n as an SVG document."""
    moments = [shown.begin, shown.end, *(mark.when for mark in shown.marks)]
    moments += [moment for arrow in shown.arrows for moment in (arrow.left, arrow.came)]
    axis = _Axis(moments)
    width, height = axis.end + _RIGHT, _TOP + _LANE * n + 30
    if shown.left_out:
        title += f"; {shown.left_out} further messages are left out"
    kinds = {arrow.kind for arrow in shown.arrows}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height}">',
        f"<style>{_STYLE}</style>",
        "<defs>",
        *(_tip(colour) for colour in dict.fromkeys(_colour(kind) for kind in sorted(kinds))),
        "</defs>",
        f'<rect class="paper" width="{width:g}" height="{height}"/>',
        f'<text class="faint" x="14" y="24">{escape(title)}</text>',
        *_lifelines(shown, axis, n),
        *_cuts(axis, n),
        *(_arrow(arrow, axis, named=len(shown.arrows) <= _NAMED) for arrow in shown.arrows),
        *_marks(shown.marks, axis),
        *(() if len(shown.arrows) <= _NAMED else _legend(kinds, height - 14)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend(kinds: Collection[str], y: float) -> Iterator[str]:
    """The names of messages in their colours, where the arrows are too many to bear them."""
    x = float(_LEFT)
    for kind in sorted(kinds, key=lambda kind: (_colour(kind), kind)):
        yield f'<text x="{x:g}" y="{y:g}" style="fill:{_colour(kind)}">{kind}</text>'
        x += _LETTER * len(kind) + 18


def _y(row: int) -> float:
    return _TOP + _LANE * row + _BELOW


def _colour(kind: str) -> str:
    return COLOURS.get(kind, _OTHER)


def _tip(colour: str) -> str:
    return (
        f'<marker id="tip{colour[1:]}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
    )


def _lifelines(shown: Shown, axis: _Axis, n: int) -> Iterator[str]:
    for row in range(n):
        yield f'<text class="name" x="22" y="{_y(row) + 5:g}">{row_name(row)}</text>'
    for row, begin, end in shown.lives:
        if begin > shown.end or (end is not None and end < shown.begin):
            continue
        left = axis.at(max(begin, shown.begin)) - (14 if begin <= shown.begin else 0)
        right = axis.end + 24 if end is None or end > shown.end else axis.at(end)
        yield f'<line class="life" x1="{left:.1f}" y1="{_y(row):g}" x2="{right:.1f}" y2="{_y(row):g}"/>'
        if end is not None and end <= shown.end:
            yield _cross(right, _y(row), 7, COLOURS["Recover"])


def _cross(x: float, y: float, size: float, colour: str) -> str:
    over = 2 * size
    path = f"M{x - size:.1f} {y - size:.1f}l{over:g} {over:g}m0 {-over:g}l{-over:g} {over:g}"
    return f'<path d="{path}" stroke="{colour}" stroke-width="2.5"/>'


def _cuts(axis: _Axis, n: int) -> Iterator[str]:
    for left, right, seconds in axis.gaps():
        middle, bottom = (left + right) / 2, _y(n - 1) + 46
        yield f'<line class="cut" x1="{middle:.1f}" y1="{_TOP}" x2="{middle:.1f}" y2="{bottom - 14:g}"/>'
        yield f'<text class="faint" x="{middle:.1f}" y="{bottom:g}" text-anchor="middle">{_span(seconds)} pass</text>'


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _arrow(arrow: Arrow, axis: _Axis, *, named: bool) -> str:
    """A message; one that is lost on its way ends half-way, with a cross."""
    x1, y1, x2, y2 = axis.at(arrow.left), _y(arrow.sender), axis.at(arrow.came), _y(arrow.receiver)
    colour = _colour(arrow.kind)
    if arrow.lost and arrow.came <= arrow.left:
        x2, y2 = x1 + 26, y1 + (y2 - y1) / 3
    down = 1 if y2 > y1 else -1
    kind = "message answer" if arrow.kind.endswith("OK") else "message"
    line = (
        f'<path class="{kind}" d="M{x1:.1f} {y1:g}L{x2:.1f} {y2 - 3 * down:.1f}" stroke="{colour}" '
        f'marker-end="url(#tip{colour[1:]})"/>'
    )
    if arrow.lost:
        line += _cross(x2, y2 - 3 * down, 5, colour)
    if not named:
        return f"<g><title>{arrow.kind} {' '.join(map(place_name, arrow.places))}</title>{line}</g>"
    share = 0.34 if abs(arrow.sender - arrow.receiver) == 1 else 0.2
    x, y, angle = x1 + share * (x2 - x1), y1 + share * (y2 - y1), degrees(atan2(y2 - y1, x2 - x1))
    return (
        f'{line}<text class="label" x="0" y="-4" text-anchor="middle" '
        f'transform="translate({x:.1f} {y:.1f}) rotate({angle:.1f})" style="fill:{colour}">{arrow.kind}</text>'
    )


def _marks(marks: Sequence[Mark], axis: _Axis) -> Iterator[str]:
    """A dot for each moment at a replica, and what happened then: above the line of the first one, else below it."""
    together: dict[tuple[int, int], list[str]] = defaultdict(list)
    for mark in marks:
        together[mark.row, round(axis.at(mark.when))].append(mark.text)
    ends: dict[tuple[int, int], float] = {}
    for (row, x), texts in sorted(together.items()):
        yield f'<circle class="mark" cx="{x}" cy="{_y(row):g}" r="3.5"/>'
        lines = list(dict.fromkeys(texts))
        first = next(
            level
            for level in count()
            if all(ends.get((row, level + index), 0.0) < x for index in range(len(lines)))
        )
        for index, text in enumerate(reversed(lines) if row == 0 else lines):
            offset = _LINE * (first + index)
            y = _y(row) - 10 - offset if row == 0 else _y(row) + 18 + offset
            yield f'<text x="{x}" y="{y:g}">{escape(text)}</text>'
            ends[row, first + index] = x + _LETTER * len(text)
