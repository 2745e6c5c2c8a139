"""Simulated registers: acceptors, proposers, clients and whoever looks after them, in one thread, from a seed."""
