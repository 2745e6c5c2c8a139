"""Scripts and their transcripts: text in, text out. `tests/scenario/README.md` says how they are written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection

from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.multipaxos.state import LOG
from scenario import groups
from scenario.dialect import DIALECTS
from scenario.groups import Groups
from scenario.mail import Filter, ScenarioError
from scenario.registers import KINDS, Registers
from scenario.world import World

INDENT = "    "
_LINK = re.compile(r"([A-Z*])->([A-Z*])")
_PLACE = re.compile(r"([A-Z])\.(\d+)")
_DURATION = re.compile(r"(\d+)(ms|s)")


def _of_mail(world: Groups | Registers, kinds: Collection[str]) -> dict[str, Callable[[list[str]], None]]:
    """The commands about what is under way."""

    def wanted(words: list[str]) -> Filter:
        found = Filter()
        for word in words:
            if link := _LINK.fullmatch(word):
                ends = [None if end == "*" else world.row(end) for end in link.groups()]
                found = found._replace(sender=ends[0], receiver=ends[1])
            else:
                found = found._replace(kind=word) if word in kinds else found._replace(place=word)
        return found

    return {
        "deliver": lambda words: world.deliver(wanted(words)),
        "drop": lambda words: world.drop(wanted(words)),
        "copy": lambda words: world.copy(wanted(words)),
        "stabilize": lambda _: world.stabilize(),
    }


class Script:
    """Plays one script; `transcript` is the script with what happened under each command."""

    def __init__(self, text: str) -> None:
        self._lines: list[str] = []
        self._world: World | None = None
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "cluster": self._cluster,
            "registers": self._begin_registers,
            "groups": self._begin_groups,
            "propose": self._propose,
            "deliver": lambda words: self.world.deliver(self._filter(words)),
            "drop": lambda words: self.world.drop(self._filter(words)),
            "copy": lambda words: self.world.copy(self._filter(words)),
            "stabilize": lambda _: self.world.stabilize(),
            "finish": lambda _: self.world.finish(),
            "tick": lambda words: self.world.tick(_seconds(words[0])),
            "crash": lambda words: self.world.crash(self._row(words[0])),
            "restart": lambda words: self.world.restart(self._row(words[0])),
            "hold": lambda words: self.world.hold(self._row(words[0])),
            "flush": lambda words: self.world.flush(self._row(words[0])),
            "recover": lambda words: self.world.take_over(self._row(words[0]), self._place(words[1])),
            "campaign": lambda words: self.world.take_over(self._row(words[0]), None),
            "retire": lambda words: self.world.retire(self._row(words[0])),
            "silent": lambda words: self.world.hear(self._row(words[0]), heard=False),
            "heard": lambda words: self.world.hear(self._row(words[0]), heard=True),
            "beacon": lambda words: self.world.beacon(self._row(words[0])),
            "show": lambda words: self.world.show(self._place(words[0])),
        }
        for number, line in enumerate(text.splitlines(), 1):
            self._play(number, line)

    @property
    def world(self) -> World:
        if self._world is None:
            raise ScenarioError("begin with a cluster")
        return self._world

    @property
    def transcript(self) -> str:
        return "\n".join(self._lines) + "\n"

    @property
    def coverage(self) -> Counter[str]:
        """How often each decision of the protocol was taken."""
        return Counter() if self._world is None else self._world.coverage

    def _play(self, number: int, line: str) -> None:
        if line.startswith(INDENT):
            return  # what an earlier play wrote
        self._lines.append(line)
        if not line or line.startswith("#"):
            return
        name, *words = line.split()
        try:
            self._command(name)(words)
        except (ScenarioError, IndexError, AssertionError) as error:
            error.add_note(f"in line {number}: {line}")
            error.add_note(self.transcript)
            raise

    def _command(self, name: str) -> Callable[[list[str]], None]:
        if name not in self._commands:
            raise ScenarioError(f"no command {name}, only {', '.join(self._commands)}")
        return self._commands[name]

    def _say(self, line: str) -> None:
        self._lines.append(INDENT + line)

    # -- commands with options -----------------------------------------------------------------------------

    def _cluster(self, words: list[str]) -> None:
        options = _options(words)
        numbers = {key: int(options[key]) for key in ("n", "f", "e") if key in options}
        self._world = World(
            numbers["n"],
            numbers.get("f"),
            numbers.get("e"),
            DIALECTS[options.get("protocol", "epaxos")],
            options,
            say=self._say,
        )

    def _begin_groups(self, words: list[str]) -> None:
        """From now on the commands are those of groups."""
        options = _options(words)
        world = Groups(options["groups"].split(","), options["callers"].split(","), self._say)
        self._commands = _of_mail(world, groups.KINDS) | {
            "multi": lambda words: world.multi(*words),
            "get": lambda words: world.get(*words),
            "end": lambda words: world.end(words[0]),
            "crash": lambda words: world.crash(words[0]),
            "show": lambda words: world.show(words[0]),
        }

    def _begin_registers(self, words: list[str]) -> None:
        """From now on the commands are those of registers."""
        options = _options(words)
        world = Registers(int(options.get("n", 3)), options.get("proposers", "P"), self._say)
        self._commands = _of_mail(world, KINDS) | {
            "propose": lambda words: world.propose(*words),
            "collect": lambda words: world.collect(words[0]),
            "tick": lambda words: world.tick(_seconds(words[0])),
            "crash": lambda words: world.crash(words[0]),
            "restart": lambda words: world.restart(words[0]),
            "show": lambda words: world.show(words[0]),
        }

    def _propose(self, words: list[str]) -> None:
        row, name, *rest = words
        options = _options(rest)
        if not options:
            options = {"writes": "k"}
        self.world.propose(
            self._row(row), name, _keys(options.get("reads", "")), _keys(options.get("writes", ""))
        )

    # -- words ---------------------------------------------------------------------------------------------

    def _row(self, word: str) -> Row:
        row = ord(word) - ord("A") if len(word) == 1 else -1
        if not 0 <= row < len(self.world.replicas):
            raise ScenarioError(f"no replica {word}")
        return row

    def _place(self, word: str) -> InstanceId:
        if self.world.has_leader and word.isdecimal():
            return InstanceId(LOG, int(word))
        match = _PLACE.fullmatch(word)
        if match is None:
            wanted = "a slot is a number" if self.world.has_leader else "an instance is written like A.0"
            raise ScenarioError(f"{wanted}, not {word}")
        return InstanceId(self._row(match[1]), int(match[2]))

    def _filter(self, words: list[str]) -> Filter:
        """Read what follows `deliver`: a link, a kind of message, an instance, each optional."""
        wanted = Filter()
        for word in words:
            if link := _LINK.fullmatch(word):
                sender, receiver = (None if end == "*" else self._row(end) for end in link.groups())
                wanted = wanted._replace(sender=sender, receiver=receiver)
            elif word in self.world.dialect.kinds:
                wanted = wanted._replace(kind=word)
            else:
                wanted = wanted._replace(place=self._place(word))
        return wanted


def _options(words: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _keys(joined: str) -> tuple[bytes, ...]:
    return tuple(key.encode() for key in joined.split(",") if key)


def _seconds(word: str) -> float:
    match = _DURATION.fullmatch(word)
    if match is None:
        raise ScenarioError(f"a time is written like 200ms or 2s, not {word}")
    return int(match[1]) / (1000 if match[2] == "ms" else 1)
