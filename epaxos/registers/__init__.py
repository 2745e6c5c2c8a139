"""Registers: single values by consensus, each for itself, carried by a program's own nodes (docs/registers.md).

network = registers.MemoryNetwork()
nodes = [registers.Node(id, registers.MemoryStore(), network.transport(id)) for id in range(3)]
for node in nodes:
    node.connect(0, 1, 2)
nodes[0].propose(b"counter", Op.increment(b"counter"))
"""

from epaxos.registers.changes import Change, change
from epaxos.registers.ids import ServerIds
from epaxos.registers.log import EngineLog, Log, MemoryLog, StoreLog
from epaxos.registers.memory import MemoryNetwork
from epaxos.registers.node import Collected, Node, Reply
from epaxos.registers.observer import Chosen, Compacted, Observer, Place
from epaxos.registers.store import EngineStore, GroupStore, MemoryStore, Store
from epaxos.registers.transport import Transport, Unreachable

__all__ = [
    "Change",
    "Chosen",
    "Collected",
    "Compacted",
    "EngineLog",
    "EngineStore",
    "GroupStore",
    "Log",
    "MemoryLog",
    "MemoryNetwork",
    "MemoryStore",
    "Node",
    "Observer",
    "Place",
    "Reply",
    "ServerIds",
    "Store",
    "StoreLog",
    "Transport",
    "Unreachable",
    "change",
]
