"""Mutants of values that end (protocol 4.14; `statemachine.expiry`)."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Draw, Mutant, Patch

_EXPIRY: Final = "epaxos.statemachine.expiry"
_STORE: Final = "epaxos.statemachine.store"
_VALUES: Final = "epaxos.statemachine.values"

TIMED: Final = Draw("values that end", options=(("mix", "timed"),))
_STEADY: Final = Draw("values that end, clocks agree", faults="crash,partition", options=(("mix", "timed"),))


def _mutant(name: str, bug: str, *patches: Patch, draw: Draw = TIMED, schedule: str = "") -> Mutant:
    return Mutant(name, bug, "4.14", *patches, draw=draw, schedule=schedule)


GENERATIONS: Final = (
    _mutant(
        "expire-any-generation",
        "a late proposal ends whatever stands under the key",
        Patch(_STORE, "isinstance(current, Expiring) and argument == [*current.generation]", "current"),
    ),
    _mutant(
        "ends-by-anybody",
        "whether a value ends by this command is answered by whether it ends at all",
        Patch(
            _STORE,
            "return _OK if argument == found else",
            "return _OK if (argument is None) == (found is None) else",
        ),
    ),
    _mutant(
        "one-generation-per-multi",
        "all that a MULTI gives a time has the same generation",
        Patch(
            _STORE,
            "Generation(client, self._multi_number, self._place)",
            "Generation(client, self._multi_number, 0)",
        ),
    ),
    _mutant(
        "expire-ignores-persist",
        "a value that was told to stay still ends",
        Patch(_STORE, "        self._data[key] = bytes(current)\n", ""),
    ),
    _mutant(
        "delete-keeps-expiry",
        "what is put where a value ends ends with it",
        Patch(
            _STORE,
            "                data[key] = argument\n",
            "                data[key] = _ending_as(data.get(key), argument)\n",
        ),
    ),
)

STATE: Final = (
    _mutant(
        "expiry-not-in-checkpoint",
        "checkpoints hold values without their end",
        Patch(_EXPIRY, "list(values)], default=_pack_end, strict_types=True)", "list(values)])"),
    ),
    _mutant(
        "merge-blind-to-ends",
        "of two equal values that end differently, an adoption keeps the older one",
        Patch(_VALUES, "if same(self._data.get(key), value):", "if self._data.get(key) == value:"),
    ),
    _mutant(
        "sift-blind-to-ends",
        "of two equal values that end differently, a checkpoint may keep the older one",
        Patch(
            _EXPIRY,
            "compare = same if Expiring in {*map(type, values), *map(type, others)} else eq",
            "compare = eq",
        ),
        schedule="tests/unit/statemachine/test_expiry.py::test_values_that_end_differently_are_not_the_same",
    ),
)

TIME: Final = (
    _mutant(
        "expire-early",
        "replicas count half of the time",
        Patch(_EXPIRY, "ceil((now + value.ttl / 1000) / width)", "ceil((now + value.ttl / 2000) / width)"),
        draw=_STEADY,
    ),
    _mutant(
        "expire-once",
        "that a value has ended is proposed once",
        Patch(
            _EXPIRY,
            "            self._put(ceil((now + delay) / width) * width, entry._replace(tries=entry.tries + 1))\n",
            "            pass\n",
        ),
        schedule="tests/unit/statemachine/test_expiry.py::test_what_stands_is_proposed_again_ever_later",
    ),
    _mutant(
        "no-timer-after-restart",
        "who comes back does not count for what its checkpoint holds",
        Patch(
            _VALUES, "        self._timed += [key for key, value in taken if type(value) is Expiring]\n", ""
        ),
        schedule="tests/unit/statemachine/test_expiry.py::test_the_time_of_a_value_travels_with_it",
    ),
    _mutant(
        "no-timer-after-adoption",
        "who adopts a checkpoint does not count for what it holds",
        Patch(
            _VALUES,
            "        self._set(key, value)\n        self._ordered.note()\n",
            "        self._data[key] = value\n        self._ordered.note()\n",
        ),
        schedule="tests/unit/statemachine/test_expiry.py::test_the_time_of_a_value_travels_with_it",
    ),
)
