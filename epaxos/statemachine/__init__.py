"""What commands do: the key-value store, client sessions (exactly once) and checkpoints."""
