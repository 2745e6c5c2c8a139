"""The Redis door: `redis_port`, where unchanged clients of Redis find the key-value store (docs/redis.md)."""
