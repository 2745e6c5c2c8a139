"""The CRC-32 of everything that leaves a process, by whoever computes it fastest here.

A replica checks or makes 1.3 checksums of each byte of a value. With isal, of the extras `server` and `fast`, values of
64 KiB cost it a tenth less CPU and those of 1 KiB a twelfth (`docs/profile.md`); the checksum is the same, so others
may do without.
"""

from __future__ import annotations

__all__ = ["crc32"]

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32
