"""Multi-Paxos: a leader orders all commands, and is replaced when it falls silent (docs/multipaxos.md)."""
