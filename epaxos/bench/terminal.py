"""Charts of a run in the terminal. Needs plotext, of the extra `plots`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import plotext

from epaxos.bench.histogram import NINES, Curve, nines
from epaxos.bench.series import Lines

_HEIGHT: Final = 12
_WIDEST: Final = 120
_DOTS: Final = "braille"


def plots(lines: Lines, curve: Curve, width: int, *, colour: bool) -> str:
    """Throughput over time, and the latency by percentile, each as wide as this at most."""
    total = lines.throughput[0]
    throughput = _chart(
        "commands/s over seconds", lines.seconds, [value or 0.0 for value in total.values], width
    )
    below = [point for point in curve if point[0] < 100]
    places = [nines(share) for share, _ in below]
    latency = _chart(
        "latency in ms by percentile", places, [value for _, value in below], width, percent=True
    )
    text = f"{throughput}\n{latency}"
    return text if colour else str(plotext.uncolorize(text))


def _chart(title: str, xs: Sequence[float], ys: Sequence[float], width: int, *, percent: bool = False) -> str:
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(min(width, _WIDEST), _HEIGHT)
    plotext.title(title)
    plotext.plot(list(xs), list(ys), marker=_DOTS)
    plotext.ylim(0, max(ys, default=1.0) or 1.0)
    if percent and xs:
        shown = [nine for nine in NINES if nines(nine) <= max(xs)]
        plotext.xticks([nines(nine) for nine in shown], [f"{nine:g} %" for nine in shown])
    text = str(plotext.build())
    plotext.clear_figure()
    return text
