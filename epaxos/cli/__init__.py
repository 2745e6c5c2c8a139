"""The `epaxos` command, a module a sub-command."""
