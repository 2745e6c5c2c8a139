from __future__ import annotations

from hypothesis import settings

# An example that takes long on a busy machine is no failure; pytest's own timeout ends what hangs.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
