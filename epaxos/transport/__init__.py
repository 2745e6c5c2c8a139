"""ZeroMQ sockets, framing and the msgpack codec: what stands on the wire."""
