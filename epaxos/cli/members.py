"""What the answers of replicas say of the members of a cluster, for `epaxos member`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from epaxos.cli.survey import Survey
from epaxos.config import Config
from epaxos.errors import NoAnswer
from epaxos.protocol.membership import called

_ROLES: Final = {True: "voter", False: "joiner"}

NEAR: Final = 1000
"""Instances that one which joins may lack and still vote at once: it executes so many in a fraction of a second."""


class Members(NamedTuple):
    """What a survey says of the members: all as of the latest epoch that a replica is in, by their ids.

    Of members that the file does not have only others tell, and of replicas that it has some may be no members.

    reached  how many are in that epoch; `needed` of them make it established, and then no earlier one is needed
    """

    found: Survey
    config: Config

    @property
    def up(self) -> list[dict[str, Any]]:
        """The statuses of those that answered."""
        return [replica for replica in self.found.replicas if replica["reachable"]]

    @property
    def silent(self) -> dict[str, str]:
        """The names of those that did not, and why."""
        return {it["name"]: it["error"] for it in self.found.replicas if not it["reachable"]}

    @property
    def latest(self) -> dict[str, Any]:
        """The status of one of those in the latest epoch, of one that serves if there is one.

        Raises:
            NoAnswer: no replica answered that knows the cluster, as one that waits to join it does not.
        """
        knowing = [replica for replica in self.up if votes(replica) or replica.get("members")]
        if not knowing:
            errors = "; ".join(f"{name}: {error}" for name, error in self.silent.items())
            waiting = ", ".join(replica["name"] for replica in self.up)
            raise NoAnswer(
                f"no member answers ({errors})" + (f"; {waiting} waits to join" if waiting else "")
            )
        return max(knowing, key=lambda replica: (votes(replica), replica["epoch"], not replica["reasons"]))

    @property
    def ids(self) -> list[str]:
        """Those of the members."""
        return list(self.latest.get("members") or (replica.name for replica in self.config.replicas))

    @property
    def reached(self) -> int:
        """See the class."""
        latest = self.latest["epoch"]
        return [int(replica["epoch"]) for replica in self.up if votes(replica)].count(latest)

    @property
    def needed(self) -> int:
        """See the class."""
        return len(self.ids) - int(self.latest["f"])

    @property
    def catching_up(self) -> list[str]:
        """How far those are that fetch the state."""
        told = ((one["name"], self._fetched(one)) for one in self.up)
        return [f"{name} has caught up {percent} %" for name, percent in told if percent is not None]

    def _fetched(self, replica: Mapping[str, Any]) -> int | None:
        """Per cent of the keys and sessions that one has fetched."""
        told, latest = replica.get("catch_up"), self.latest
        if not told or told["stage"] == "following":
            return None
        whole = max(1, int(latest.get("keys", 0)) + int(latest.get("sessions", 0)))
        return min(99, 100 * int(told.get("keys", 0)) // whole)

    def waiting(self, name: str) -> dict[str, Any] | None:
        """The status of the one of this name that is to join; None if there is none."""
        return next((one for one in self.up if one["name"] == name and one["id"] in self.others), None)

    def lag_of(self, replica: Mapping[str, Any]) -> str:
        """How far one that is to join is from voting at once; "" if it is as near as that."""
        fetched = self._fetched(replica)
        if fetched is not None:
            return f"caught up {fetched} %"
        if not replica["members"]:
            return "in touch with no member yet"
        if replica["epoch"] < self.latest["epoch"]:
            return f"still in epoch {replica['epoch']}"
        return f"{replica['behind']} behind" if replica["behind"] > NEAR else ""

    @property
    def newest(self) -> int:
        """The newest level that the program of one of them knows."""
        return max(int(replica["newest_level"]) for replica in self.up)

    def told_of(self, member: str) -> dict[str, Any]:
        """What there is to tell of a replica by its id: its own status, if it answered."""
        for replica in self.found.replicas:
            if replica.get("id", replica["name"]) == member:
                return replica
        silent = (it for it in self.found.replicas if not it["reachable"] and it["name"] == called(member))
        return next(silent, {"name": called(member), "reachable": False, "error": "nobody tells where it is"})

    def epoch_of(self, name: str) -> int:
        """The epoch that a member is in; of a silent one, in which it was last heard by those that answered."""
        told: list[int] = [
            replica["epoch"] for replica in self.up if replica.get("id", replica["name"]) == name
        ]
        heard: list[int] = [
            replica["peers"][name]["epoch"] for replica in self.up if name in replica["peers"]
        ]
        return max(told or heard, default=0)

    def state_of(self, replica: dict[str, Any]) -> str:
        """In a word or two."""
        if not replica["reachable"]:
            return "silent"
        if not votes(replica):
            return "up" if replica["members"] else "fetches" if replica.get("catch_up") else "waits"
        if replica["epoch"] < self.latest["epoch"]:
            return "lags"
        return str(replica["reasons"][0]).partition(":")[0] if replica["reasons"] else "up"

    def as_json(self) -> dict[str, Any]:
        """All of it as an object; docs/cli.md describes it."""
        latest, config = self.latest, self.config
        heard = self.found.heard
        ids, observers = self.ids, self.observers
        removed = latest.get("removed", ())
        joiners = [other for other in self.others if other not in observers and other not in removed]
        return {
            "cluster": config.name,
            "epoch": latest["epoch"],
            "protocol": latest["protocol"],
            "level": latest["level"],
            "f": latest["f"],
            "e": latest["e"],
            "reached": self.reached,
            "needed": self.needed,
            "established": self.reached >= self.needed,
            "changing": any(replica["changing"] for replica in self.up),
            "spare": None if heard is None else heard - self.found.quorum,
            "members": [self._entry(member) for member in [*ids, *joiners]]
            + [self._observer(*told) for told in sorted(observers.items())],
        }

    @property
    def observers(self) -> dict[str, dict[str, Any]]:
        """What those that vote tell of those that follow them, of each the most favourable; by who they are.

        One that lags may still tell so of who has a vote by now. They tell so too of those that are to join, which say
        themselves that they do not observe, and of those that were removed, until these have left.
        """
        found: dict[str, dict[str, Any]] = {}
        ids = [*self.ids, *self.latest.get("removed", ())]
        ids += [one["id"] for one in self.up if not (votes(one) or one.get("observes"))]
        for replica in self.up:
            for name, told in replica.get("observers", {}).items():
                if name in ids:
                    continue
                known = found.setdefault(name, told)
                if (told["online"], -told["behind"]) > (known["online"], -known["behind"]):
                    found[name] = told
        return found

    def _observer(self, member: str, told: Mapping[str, Any]) -> dict[str, Any]:
        name = called(member)
        address = next((address for address in self.config.observers if address.name == name), None)
        return {
            "name": name,
            "id": member,
            "role": "joiner" if told.get("joins") else "observer",
            "host": None if address is None else address.host,
            "port": None if address is None else address.port,
            "client_port": None if address is None else address.client_port,
            "state": "up" if told["online"] else "silent",
            "epoch": self.latest["epoch"],
            "behind": told["behind"],
            "fetched": None,
            "error": None,
        }

    @property
    def others(self) -> list[str]:
        """The ids of replicas that answer and are no members."""
        ids = self.ids
        return [it for replica in self.up if (it := replica.get("id", replica["name"])) not in ids]

    def _entry(self, member: str) -> dict[str, Any]:
        replica, name = self.told_of(member), called(member)
        filed = next((address.place for address in self.config.replicas if address.name == name), None)
        at = self.latest.get("addresses", {}).get(member, filed) or (None,) * 4
        return {
            "name": name,
            "id": member,
            "role": _ROLES[member in self.ids],
            "host": at[0],
            "port": at[1],
            "client_port": at[2],
            "state": self.state_of(replica),
            "epoch": self.epoch_of(member),
            "behind": replica.get("behind") if member in self.ids or replica["members"] else None,
            "fetched": self._fetched(replica),
            "error": replica.get("error"),
        }

    def lines(self) -> list[str]:
        """The same for people."""
        told = self.as_json()
        established = "established" if told["established"] else "not established"
        spare = "nothing commits now" if told["spare"] < 0 else f"{told['spare'] or 'none'} more may fail"
        heads = [
            f"epoch {told['epoch']}, {established} at {told['reached']} of {len(self.ids)}; "
            f"f {told['f']}, e {told['e']}, {told['protocol']}, level {told['level']}; {spare}"
            + ("; a change is under way" if told["changing"] else "")
        ]
        rows = [
            (
                entry["name"],
                entry["role"],
                f"{entry['host']}:{entry['port']}" if entry["host"] else "elsewhere",
                entry["state"],
                f"epoch {entry['epoch']}",
                _distance(entry),
            )
            for entry in told["members"]
        ]
        return heads + _aligned(rows)


def _distance(entry: Mapping[str, Any]) -> str:
    """How far one is from what is decided, for people."""
    if entry["fetched"] is not None:
        return f"caught up {entry['fetched']} %"
    if entry["behind"]:
        return f"{entry['behind']} behind"
    return "caught up" if entry["role"] == "joiner" and entry["behind"] == 0 else ""


def votes(replica: Mapping[str, Any]) -> bool:
    """Whether a replica, which answered, has a vote in its epoch."""
    return replica.get("row", 0) is not None


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
