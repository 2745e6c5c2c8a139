"""The log of a replica on stderr: one line a message, with time (UTC), level and the replica's name."""

from __future__ import annotations

import logging
import time

_LINE = "%(asctime)s.%(msecs)03dZ %(levelname)-8s {name}%(message)s"


class _OneLine(logging.Formatter):
    """A message is one line, whatever it quotes; the traceback of a fault in the program follows below."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in the base class
        """See `logging.Formatter.formatMessage`."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def log_to_stderr(level: str, name: str) -> None:
    """Log what is at least as important as `level`; each line names the replica, unless `name` is empty."""
    handler = logging.StreamHandler()
    line = _LINE.format(name=f"{name}: " if name else "")
    handler.setFormatter(_OneLine(line, datefmt="%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
