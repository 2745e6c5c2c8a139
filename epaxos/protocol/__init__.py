"""Consensus as values in, values out: no thread, socket, file, clock, randomness or logger of its own."""
