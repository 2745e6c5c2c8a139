"""A replica that cannot read what it holds says what is wrong, and lets go of its directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from epaxos.actors.assembly import make_parts
from epaxos.config import load_config
from epaxos.errors import StorageError
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import Instance
from epaxos.storage.records import RecordWriter
from live_cluster import ROOT


def test_log_that_cannot_be_read_is_named_as_the_cause(tmp_path: Path) -> None:
    config = load_config(str(ROOT / "conf" / "local.toml"))
    config = replace(config, storage=replace(config.storage, directory=str(tmp_path), engine="sqlite"))
    parts = make_parts(config, 0)
    engine = parts.disk.engine
    ((key, _),) = RecordWriter(config.n).entries([Instance(InstanceId(0, 0), (-1, -1, -1))])
    # The entries after the bad one are what a scan that was given up has not come to.
    engine.write_log([(key, b"no record"), *((key[:-1] + bytes([last]), b"x") for last in (2, 3))])
    parts.disk.keeper.source.close()
    engine.close()
    for _ in range(2):  # were the directory not released, the second time would speak of that
        with pytest.raises(StorageError, match=r"instance 0\.0 cannot be read"):
            make_parts(config, 0)
