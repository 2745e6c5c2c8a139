"""What a user probably meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from epaxos.config.kinds import show


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, whatever the case of its letters; None if none is like it."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return by_folded[matches[0]] if matches else None


def advice(word: str, known: Iterable[str]) -> str:
    """What was probably meant by `word`, or else everything that is known."""
    known = tuple(known)
    suggestion = nearest(word, known)
    return f"allowed: {', '.join(known)}" if suggestion is None else f"did you mean {show(suggestion)}?"
