"""A whole cluster in one thread from one seed: virtual time, a hostile network, crashing replicas, checkers."""
