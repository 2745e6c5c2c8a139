"""A replicated Python object: accounts that three replicas agree on, each with a part of the state of its own."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from epaxos import Footprint
from epaxos.testing import local_nodes


class Ledger:
    """Moves amounts between accounts; the balance of each stands under its name."""

    name = "ledger"

    def __init__(self) -> None:
        self.balances: dict[bytes, int] = {}

    def footprint(self, command: bytes) -> Footprint:
        source, target, amount = json.loads(command)
        if type(amount) is not int or not 0 < amount < 2**63:  # JSON has 0.5 and Infinity too
            raise ValueError("the amount must be an integer from 1 to 2**63 - 1")
        return Footprint(writes=[source.encode(), target.encode()])

    def apply(self, commands: Sequence[bytes]) -> Sequence[bytes]:
        return [self.move(*json.loads(command)) for command in commands]

    def move(self, source: str, target: str, amount: int) -> bytes:
        for account, change in ((source.encode(), -amount), (target.encode(), amount)):
            self.balances[account] = self.balances.get(account, 0) + change
        return b"%d" % self.balances[source.encode()]

    def keys(self) -> Collection[bytes]:
        return self.balances.keys()

    def save(self, key: bytes) -> bytes | None:
        return b"%d" % self.balances[key] if key in self.balances else None

    def load(self, key: bytes, state: bytes | None) -> None:
        self.balances.pop(key, None) if state is None else self.balances.update({key: int(state)})


if __name__ == "__main__":
    with local_nodes(Ledger) as nodes:
        print(nodes[0].execute(b'["ann", "bob", 30]'), nodes[1].execute(b'["bob", "cy", 10]'))
