"""How a replica does, as it is told over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Health(NamedTuple):
    """How a replica does.

    dead     why it does not live, a line each; such a process should be started again
    unready  why it cannot serve clients; what is dead is not ready either
    facts    what else JSON shall tell
    """

    dead: Sequence[str]
    unready: Sequence[str]
    facts: Mapping[str, object]
