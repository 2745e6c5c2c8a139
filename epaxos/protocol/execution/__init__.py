"""Decided instances in, components in execution order out: what a log with dependencies needs, whatever decides it."""
