"""Rows of a checkpoint by key, as one block each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epaxos.checkpoint.rows import INDEX, VALUE, Row, block_key, index_block, value_block
from epaxos.protocol.contract import Columns


def index_row(keys: Sequence[bytes], columns: Columns, checkpoint: int = 1) -> Row:
    """What is remembered of some keys."""
    return block_key(INDEX, checkpoint, 0), index_block(keys, columns)


def value_row(values: Mapping[bytes, bytes | None], checkpoint: int = 1) -> Row:
    """Some values."""
    return block_key(VALUE, checkpoint, 0), value_block(list(values), list(values.values()))
