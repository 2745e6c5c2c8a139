"""Rows of a checkpoint by key, as one block each, and what a core remembers of keys in all its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from epaxos.checkpoint.rows import VALUE, Row, block_key, index_block, index_kind, value_block
from epaxos.protocol.contract import Remembered
from epaxos.protocol.epaxos.conflicts import Conflicts
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.ids import Slot

Columns: TypeAlias = Sequence[Sequence[Slot]]
"""`Core.width` columns of slots, each as long as the keys."""


def index_rows(keys: Sequence[bytes], columns: Columns, checkpoint: int = 1) -> list[Row]:
    """What is remembered of some keys."""
    return [
        (block_key(index_kind(column), checkpoint, 0), index_block(keys, slots))
        for column, slots in enumerate(columns)
    ]


def value_row(values: Mapping[bytes, bytes | None], checkpoint: int = 1) -> Row:
    """Some values."""
    return block_key(VALUE, checkpoint, 0), value_block(list(values), list(values.values()))


def recall(core: EPaxos, keys: Sequence[bytes]) -> list[list[Slot]]:
    """What a core remembers of some keys."""
    return [*columns_of(core.state.conflicts, keys), *columns_of(core.state.executed, keys)]


def columns_of(index: Conflicts, keys: Sequence[bytes]) -> list[list[Slot]]:
    """The slots of some keys in all columns of an index."""
    return [index.column(column, keys) for column in range(2 * len(index.base))]


def remember(core: EPaxos, keys: Sequence[bytes], columns: Columns) -> None:
    """Let it remember what a checkpoint says of some keys."""
    for column, slots in enumerate(columns):
        core.remember(Remembered(column, keys, slots))
