"""A cluster of consensus cores in one thread, on virtual time and a network that misbehaves by seed."""
