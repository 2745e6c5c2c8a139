"""Transactions over registers, all of whose processes are killed; see `__main__`."""
