"""A piece of the dependency graph in the language of Graphviz, for other programs to lay out."""

from __future__ import annotations

import json
from itertools import groupby

from epaxos.inspection.graph import Graph, Node
from epaxos.inspection.svg import COLOURS
from epaxos.inspection.wording import place_name


def as_dot(graph: Graph, title: str) -> str:
    """The graph as a DOT document: from left to right the order of execution, edges to what an instance depends on."""
    nodes = sorted(graph.nodes, key=lambda node: (graph.columns[node.place], node.place))
    lines = [
        f"digraph {json.dumps(title)} {{",
        "  rankdir=RL;",  # edges point at what is before
        '  node [shape=box, style="rounded,filled", fontname="sans-serif"];',
        *(f"  {_node(node)}" for node in nodes),
    ]
    for _, column in groupby(nodes, key=lambda node: graph.columns[node.place]):
        lines.append(f"  {{ rank=same; {' '.join(json.dumps(place_name(node.place)) for node in column)} }}")
    for place, other in graph.edges:
        style = " [color=red, style=dashed]" if graph.is_tied(place, other) else ""
        lines.append(f"  {json.dumps(place_name(place))} -> {json.dumps(place_name(other))}{style};")
    return "\n".join([*lines, "}"]) + "\n"


def _node(node: Node) -> str:
    name = place_name(node.place)
    label = f"{name}\n{node.keys}" if node.keys else name
    texts = {"label": label, "tooltip": node.note, "fillcolor": COLOURS[node.state]}
    attributes = ", ".join(f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in texts.items())
    return f"{json.dumps(name)} [{attributes}];"
