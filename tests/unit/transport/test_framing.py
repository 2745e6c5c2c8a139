from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos import version
from epaxos.errors import FrameError
from epaxos.transport.framing import (
    ANY_CLUSTER,
    HEADER_SIZE,
    MAGIC,
    Frame,
    Kind,
    open_frame,
    seal,
)
from epaxos.version import NEWEST

CLUSTER = 0x0123456789ABCDEF
MAX_SIZE = 200

KINDS = st.sampled_from(list(Kind))
CLUSTERS = st.integers(0, 2**64 - 1)
BODIES = st.binary(max_size=MAX_SIZE - HEADER_SIZE)


def sealed(  # the parts of a frame, each of which a test may get wrong
    *,
    magic: bytes = MAGIC,
    version: int = NEWEST,
    kind: int = Kind.PEER,
    cluster: int = CLUSTER,
    body: bytes = b"body",
) -> bytes:
    head = struct.pack(">2sBBQ", magic, version, kind, cluster)
    return head + struct.pack(">I", zlib.crc32(head + body)) + body


def kind_of_refusal(frame: bytes, cluster: int = CLUSTER) -> str:
    with pytest.raises(FrameError) as refusal:
        open_frame(frame, cluster, MAX_SIZE)
    return refusal.value.kind


@given(KINDS, CLUSTERS, BODIES)
def test_a_sealed_frame_opens(kind: Kind, cluster: int, body: bytes) -> None:
    frame = seal(kind, cluster, body)
    assert len(frame) == HEADER_SIZE + len(body)
    assert open_frame(frame, cluster, MAX_SIZE) == Frame(kind, cluster, body)
    assert open_frame(frame, ANY_CLUSTER, MAX_SIZE) == Frame(kind, cluster, body)


def test_frames_of_every_level_that_is_known_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "NEWEST", version.OLDEST + 1)
    for level in (version.OLDEST, version.NEWEST):
        frame = seal(Kind.PEER, CLUSTER, b"", level)
        assert open_frame(frame, CLUSTER, MAX_SIZE) == Frame(Kind.PEER, CLUSTER, b"", level)
    with pytest.raises(FrameError, match=r"frame of level \d+; this program knows levels \d+ to \d+"):
        open_frame(seal(Kind.PEER, CLUSTER, b"", version.NEWEST + 1), CLUSTER, MAX_SIZE)


def test_the_bytes_of_a_frame_are_those_of_the_documented_header() -> None:
    frame = seal(Kind.REQUEST, CLUSTER, b"body")
    assert frame == sealed(kind=Kind.REQUEST)
    assert frame[:12] == b"EP%c\x10\x01\x23\x45\x67\x89\xab\xcd\xef" % NEWEST
    assert HEADER_SIZE == 16


def test_a_client_that_does_not_know_the_cluster_is_heard() -> None:
    frame = seal(Kind.REQUEST, ANY_CLUSTER, b"")
    assert open_frame(frame, CLUSTER, MAX_SIZE) == Frame(Kind.REQUEST, ANY_CLUSTER, b"")


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (sealed(body=bytes(MAX_SIZE - HEADER_SIZE + 1)), "oversized"),
        (bytes(MAX_SIZE + 1), "oversized"),
        (b"", "malformed"),
        (sealed()[: HEADER_SIZE - 1], "malformed"),
        (sealed(magic=b"EQ"), "malformed"),
        (sealed()[:-1], "checksum"),
        (sealed() + b"\0", "checksum"),
        (sealed()[:HEADER_SIZE], "checksum"),
        (sealed(version=NEWEST + 1), "version"),
        (sealed(version=0), "version"),
        (sealed(kind=0), "unknown"),
        (sealed(kind=255), "unknown"),
        (sealed(cluster=CLUSTER + 1), "cluster"),
    ],
)
def test_what_is_wrong_with_a_frame_is_told_apart(frame: bytes, kind: str) -> None:
    assert kind_of_refusal(frame) == kind


def test_a_frame_of_the_largest_size_passes() -> None:
    frame = sealed(body=bytes(MAX_SIZE - HEADER_SIZE))
    assert len(open_frame(frame, CLUSTER, MAX_SIZE).body) == MAX_SIZE - HEADER_SIZE


def test_the_version_is_judged_before_kind_and_cluster() -> None:
    # A later version may add kinds and compute the fingerprint another way: say "version", not "unknown".
    assert kind_of_refusal(sealed(version=9, kind=99, cluster=1)) == "version"


def test_a_refusal_names_both_clusters() -> None:
    with pytest.raises(FrameError, match=r"frame of cluster 0{13}abc, not 0123456789abcdef"):
        open_frame(sealed(cluster=0xABC), CLUSTER, MAX_SIZE)


@given(st.binary(max_size=60))
def test_random_bytes_do_not_open(frame: bytes) -> None:
    kind_of_refusal(frame)


@given(st.binary(max_size=60))
def test_random_bytes_behind_the_magic_do_not_open(rest: bytes) -> None:
    kind_of_refusal(MAGIC + rest)


@given(BODIES, st.data())
def test_a_frame_with_a_flipped_bit_does_not_open(body: bytes, data: st.DataObject) -> None:
    frame = bytearray(seal(Kind.PEER, CLUSTER, body))
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    assert kind_of_refusal(bytes(frame)) in {"malformed", "checksum"}


@given(BODIES, st.data())
def test_a_cut_frame_does_not_open(body: bytes, data: st.DataObject) -> None:
    frame = seal(Kind.PEER, CLUSTER, body)
    length = data.draw(st.integers(0, len(frame) - 1))
    assert kind_of_refusal(frame[:length]) in {"malformed", "checksum"}


@given(st.integers(0, 255), st.integers(0, 255), CLUSTERS, BODIES, st.sampled_from([b"EP", b"EX", b"\0\0"]))
def test_a_rightly_summed_frame_opens_only_if_all_of_it_is_right(
    version: int, kind: int, cluster: int, body: bytes, magic: bytes
) -> None:
    frame = sealed(magic=magic, version=version, kind=kind, cluster=cluster, body=body)
    right = magic == MAGIC and version == NEWEST and kind in set(Kind) and cluster in {CLUSTER, ANY_CLUSTER}
    if right:
        assert open_frame(frame, CLUSTER, MAX_SIZE) == Frame(kind, cluster, body)
    else:
        assert kind_of_refusal(frame) in {"malformed", "version", "unknown", "cluster"}
