"""Acceptors of registers, killed under load."""
