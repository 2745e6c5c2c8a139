"""EPaxos*: Egalitarian Paxos with the recovery that has a proof (docs/protocol.md)."""
