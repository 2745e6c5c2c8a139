"""Nodes of registers in this process."""

from __future__ import annotations

from contextlib import ExitStack

from epaxos.protocol.registers.change import Pace
from epaxos.registers import MemoryNetwork, MemoryStore, Node

PACE = Pace(retry=0.02, pause=0.002)


class Nodes(list[Node]):
    """Nodes that are connected; `stores` outlive them."""

    def __init__(self, n: int, stack: ExitStack) -> None:
        self.network = MemoryNetwork()
        self.stores = [MemoryStore() for _ in range(n)]
        self.stack = stack
        super().__init__(self.start(id_) for id_ in range(n))
        self.connect()

    def start(self, id_: int, acceptors: tuple[int, ...] | None = None) -> Node:
        node = Node(id_, self.stores[id_], self.network.transport(id_), acceptors=acceptors, pace=PACE)
        self.network.serve(id_, node.handle)
        self.stack.callback(node.close)
        return node

    def connect(self) -> None:
        for node in self:
            node.connect(*range(len(self)))
