from __future__ import annotations

import importlib
import sys
import zlib

import pytest

from epaxos import checksum


@pytest.mark.parametrize("faster", [True, False])
def test_the_checksum_is_that_of_zlib_whoever_computes_it(
    faster: bool,  # noqa: FBT001 - a parameter of pytest's
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        if not faster:
            patch.setitem(sys.modules, "isal.isal_zlib", None)
        crc32 = importlib.reload(checksum).crc32
        assert faster or crc32 is zlib.crc32
    importlib.reload(checksum)
    for size in (0, 1, 15, 64, 1000, 70_000):
        body = bytes(index * 7 & 255 for index in range(size))
        assert crc32(body) == zlib.crc32(body)
        assert crc32(memoryview(body), 12345) == zlib.crc32(body, 12345)
