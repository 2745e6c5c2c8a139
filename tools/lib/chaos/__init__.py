"""Real replicas killed, paused and cut off under load, and what its clients were answered judged."""
