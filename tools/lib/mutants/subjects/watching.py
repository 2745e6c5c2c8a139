"""Mutants of watching: what is kept of changes, from where on, and when it is told (docs/watch.md)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Draw, Mutant, Patch

_HISTORY: Final = "epaxos.watching.history"
_POSITION: Final = "epaxos.watching.position"
_CLIENT: Final = "epaxos.client.watch"
_WATCHERS: Final = "epaxos.watching.watchers"
_STORE: Final = "epaxos.statemachine.store"
_WORLD: Final = "epaxos.simulation.world.replica"

WATCHED: Final = Draw(
    "watchers, n=3",
    replicas=3,
    operations=12,
    faults="loss,reorder,crash,client",
    times=(("patience", 4.0), ("phase", 100.0), ("think", 3.0)),
    options=(("watchers", 4), ("keys", 3), ("mix", "mixed"), ("hot", 0.0), ("whole", 0.05), ("always", True)),
)
"""Watchers who go from one replica to the other."""

DROPPED: Final = WATCHED._replace(
    name="watchers and long absences, n=3",
    operations=20,
    faults="loss,reorder,crash,partition,pause",
    times=(("patience", 4.0), ("phase", 200.0), ("checkpoint", 2.0), ("think", 3.0)),
    options=(
        *WATCHED.options,
        ("troubles", 6),
        ("dead", 0),
        ("retain", 0),
        ("checkpoint_size", 1),
        ("chunk", 200),
    ),
)
"""The same, where nothing that has executed is kept in logs, so that replicas adopt checkpoints."""

MERGING: Final = DROPPED._replace(
    name="watchers and long merging, n=3",
    times=(*DROPPED.times, ("cpu", 1.0)),
    options=(*DROPPED.options, ("slice", 1), ("merging", 1), ("keys", 20), ("operations", 60)),
)
"""The same, where merging one takes many rounds."""


def _watched(what: str, *options: tuple[str, object], faults: str = "") -> Draw:
    """The first of these with other options."""
    names = {name for name, _ in options}
    rest = [option for option in WATCHED.options if option[0] not in names]
    return WATCHED._replace(
        name=f"watchers {what}, n=3", faults=faults or WATCHED.faults, options=(*rest, *options)
    )


FEW: Final = _watched("of a short history", ("history", 600), ("mix", "writes"))
"""Where replicas keep a few changes only."""

POSITIONS: Final = (
    Mutant(
        "watch-gap-at-resume",
        "whoever goes on at another replica is told what comes from now on",
        "watch",
        Patch(
            _WATCHERS,
            "return (history.start(since), 0) if reaches else",
            "return (history.next, 0) if reaches else",
        ),
        draw=WATCHED,
    ),
    Mutant(
        "position-mid-batch",
        "an instance counts as told with the first of its changes",
        "watch",
        Patch(
            _HISTORY,
            "self._after(since, current), current, told, whole=False",
            "self._after(since, current + 1), current, told, whole=False",
        ),
        draw=_watched("of frames of four", ("frame", 4)),
    ),
    Mutant(
        "position-by-count",
        "an instance is taken for told where later ones of its row are",
        "watch",
        Patch(
            _POSITION,
            "return place.row < len(self.rows) and bisect_right(self.rows[place.row], place.slot) % 2 == 1",
            "return place.row < len(self.rows) and bool(self.rows[place.row]) "
            "and place.slot < self.rows[place.row][-1]",
        ),
        draw=WATCHED,
    ),
    Mutant(
        "end-of-an-epoch-untold",
        "a position goes on in the epoch that has ended",
        "watch",
        Patch(
            _POSITION,
            "return max(self, executed, key=lambda one: one.epoch)",
            "return self",
        ),
        draw=_watched("over epochs", faults="loss,reorder,crash,client,refresh"),
    ),
)

HISTORY: Final = (
    Mutant(
        "adopt-skips-watch",
        "what came by a peer's checkpoint counts as told",
        "watch, 4.10",
        Patch(
            _HISTORY,
            "            self._notes.take()\n        self._forget()\n",
            "            self._notes.take()\n",
        ),
        draw=DROPPED,
    ),
    Mutant(
        "floor-forgets-restart",
        "a replica that restarts claims to have kept all that it has executed",
        "watch",
        Patch(
            _HISTORY,
            "            self._machine.note(self._notes)\n            self._forget()\n",
            "            self._machine.note(self._notes)\n            self._forget()\n"
            "            self._floor = Executed(self._now.epoch, [()] * len(self._now.rows))\n",
        ),
        draw=WATCHED,
    ),
    Mutant(
        "floor-stays",
        "what is dropped for lack of room does not raise the floor",
        "watch",
        Patch(_HISTORY, "                self._floor.add(entry.place)\n", "                pass\n"),
        draw=FEW,
    ),
    Mutant(
        "recorded-from-the-beginning",
        "who begins to keep changes claims to have kept those before",
        "watch",
        Patch(
            _HISTORY,
            "            self._machine.note(self._notes)\n            self._forget()\n",
            "            self._machine.note(self._notes)\n",
        ),
        draw=_watched("where nothing is kept else", ("always", False)),
    ),
    Mutant(
        "failed-multi-told",
        "what a MULTI did before one of its parts failed is told",
        "watch",
        Patch(
            _STORE,
            "                self.notes.cut(mark)\n",
            "                pass\n",
        ),
        draw=_watched("of several keys at once", ("mix", "multi")),
    ),
    Mutant(
        "cleared-not-told",
        "nobody is told of the keys that are cleared",
        "watch",
        Patch(
            _STORE,
            "            self.notes.add(page, [None] * len(page))\n",
            "            pass\n",
        ),
        draw=_watched("of what is cleared", ("whole", 0.4)),
    ),
)

TELLING: Final = (
    Mutant(
        "snapshot-after-changes",
        "the state is told with the position before it",
        "watch",
        Patch(
            _WATCHERS,
            "self._tell(waiting, history.position, history.next, 0, state=page)",
            "self._tell(waiting, poll.since or history.position, history.next, 0, state=page)",
        ),
        draw=FEW,
    ),
    Mutant(
        "state-while-merging",
        "the state is told while a peer's checkpoint is being merged",
        "watch, 4.10",
        Patch(_WATCHERS, "        if not self.steady():\n", "        if False:\n"),
        draw=MERGING,
    ),
    Mutant(
        "state-of-before",
        "the state is told by a replica that has not executed all that was seen elsewhere",
        "watch",
        Patch(_WATCHERS, "self.history.position.includes(since)", "True"),
        draw=_watched("of replicas that lag", faults="loss,client,partition,pause"),
    ),
    Mutant(
        "page-without-changes",
        "with a page of the state comes nothing of the keys before it",
        "watch",
        Patch(
            _WATCHERS,
            "upto = poll.after if poll.state else None",
            'upto = b"" if poll.state else None',
        ),
        draw=WATCHED,
    ),
    Mutant(
        "place-in-half-a-state",
        "a client tells a position, to go on from, of which it does not know all of the state",
        "watch",
        Patch(_CLIENT, "return self.position if self._whole else None", "return self.position"),
        draw=WATCHED,
    ),
    Mutant(
        "gap-untold",
        "a client to whom no replica has all goes on, and does not tell that it begins anew",
        "watch",
        Patch(
            _CLIENT,
            "self._whole, self._begins, self._told = False, True, None",
            "self._whole, self._begins, self._told = False, False, None",
        ),
        draw=FEW,
    ),
    Mutant(
        "watch-before-durable",
        "changes are told before the records of their round are durable",
        "watch, 4.11",
        Patch(
            _WORLD,
            "        self.disk.write(effects.records, partial(self._after_records, era, effects))\n",
            "        early, effects.executions = effects.executions, []\n"
            "        for component in early:\n"
            "            self._execute(era, component)\n"
            "        self._tell_watchers()\n"
            "        self.disk.write(effects.records, partial(self._after_records, era, effects))\n",
        ),
        draw=_watched("beside slow disks", faults="loss,reorder,crash,client,disk"),
    ),
)
