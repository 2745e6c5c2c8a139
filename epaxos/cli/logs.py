"""The log of a replica on stderr, a line a message, and what signals ask of it while it runs."""

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import time
from types import FrameType
from typing import Final

from epaxos.cli.streams import STDERR

FORMATS: Final = ("text", "json")

_log = logging.getLogger(__name__)

_LINE = "%(asctime)s.%(msecs)03dZ %(levelname)-8s {name}%(message)s"
_TIME = "%Y-%m-%dT%H:%M:%S"


class _OneLine(logging.Formatter):
    """A message is one line, whatever it quotes; the traceback of a fault in the program follows below."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in the base class
        """See `logging.Formatter.formatMessage`."""
        text = super().formatMessage(record)
        return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    """A character of a log: strangers' words must not move a terminal's cursor, nor end a line."""
    return character if character.isprintable() else character.encode("unicode_escape").decode()


class _Json(logging.Formatter):
    """An object a line: `time` (UTC), `level`, `replica`, `logger`, `message`; `traceback` if there is one."""

    converter = staticmethod(time.gmtime)

    def __init__(self, replica: str) -> None:
        super().__init__(datefmt=_TIME)
        self._replica = replica

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        told = {
            "time": f"{self.formatTime(record, self.datefmt)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "replica": self._replica,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)


def log_to_stderr(level: str, name: str, form: str = "text", *, named: bool = True) -> None:
    """Log what is at least as important as `level`.

    Each line names the replica, called `name`; as text only if it is to be `named`.
    """
    line = _LINE.format(name=f"{name}: " if named else "")
    handler = logging.StreamHandler()
    handler.setFormatter(_Json(name) if form == "json" else _OneLine(line, datefmt=_TIME))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def dump_on_crash() -> None:
    """Show what all threads are at on stderr at a crash of the interpreter; at SIGUSR1, `epaxos.cli` does."""
    faulthandler.enable(STDERR)


def debug_on_signal() -> None:
    """From now on SIGUSR2 changes the level of the log to debug, and back at the next one."""
    configured = logging.getLogger().level

    def change(_: int, __: FrameType | None) -> None:
        root = logging.getLogger()
        root.setLevel(configured if root.level == logging.DEBUG != configured else logging.DEBUG)
        level = logging.getLevelName(root.level).lower()
        _log.log(max(root.level, logging.WARNING), "the log's level is %s now (SIGUSR2)", level)

    signal.signal(signal.SIGUSR2, change)
