"""What a client is given when it is made: where the replicas are, and how long to try."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from random import Random
from typing import Final

from epaxos.client.directory import Directory
from epaxos.config import Config, load_config
from epaxos.config.kinds import Host, show
from epaxos.errors import ConfigError
from epaxos.security.keys import Login, client_login
from epaxos.transport.framing import ANY_CLUSTER, HEADER_SIZE

TIMEOUT: Final = 2.0
TRIES: Final = 3
MAX_BATCH: Final = 1000
MAX_FRAME: Final = 32 * 1024 * 1024
WINDOW: Final = 64

_FULL_FRAME: Final = 1024 * 1024
_BATCH_HEAD: Final = HEADER_SIZE + 64  # bytes of a frame beside its commands, at most

_ENDPOINT: Final = re.compile(r"(?:tcp://)?(?:\[([^\]]+)\]|([^:\[\]]+)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of a session; replicas are indices into `names` and `endpoints`.

    They are the first ones of the `directory`, which has those too that are learned of.


    order       all replicas, the preferred one first
    cluster     fingerprint for the frames, or `ANY_CLUSTER` if it is not known
    max_batch   commands in a frame of several submissions, at most
    max_frame   bytes in any frame, at most
    timeout     seconds after which a call fails that gives no time of its own
    tries       how often a command without answer is sent
    window      frames under way at most; what else is submitted waits, and shares frames
    observers   those of `names` that are observers, by index, in the order of preference; `order` does not name them
    first       those that are asked before all others, by index
    login       with which key to log in, and where to find which; None where nobody is asked for one
    """

    names: tuple[str, ...]
    endpoints: tuple[str, ...]
    order: tuple[int, ...]
    cluster: int = ANY_CLUSTER
    max_batch: int = MAX_BATCH
    max_frame: int = MAX_FRAME
    timeout: float = TIMEOUT
    tries: int = TRIES
    window: int = WINDOW
    login: Login | None = None
    observers: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    directory: Directory = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        directory = Directory(self.names, self.endpoints, self.order, self.login, self.observers, self.first)
        object.__setattr__(self, "directory", directory)

    @property
    def at_observers(self) -> Options:
        """The same for reads at observers: where none of them answers the replicas are asked."""
        return replace(self, first=tuple(dict.fromkeys((*self.first, *self.observers))))

    @property
    def max_weight(self) -> int:
        """Bytes that the commands of one frame may have, at most."""
        return self.max_frame - _BATCH_HEAD

    @property
    def full_frame(self) -> int:
        """Bytes at which a frame counts as full: a larger one would cost no less per command."""
        return min(_FULL_FRAME, self.max_weight)

    def index_of(self, replica: str | None) -> int | None:
        """The index of the replica of that name; None for None.

        Raises:
            ConfigError: there is none.
        """
        return None if replica is None else self.directory.index_of(replica)


def client_options(
    endpoints: str | Sequence[str] | None,
    config: Config | None,
    replica: str | None,
    timeout: float | None,
    tries: int | None,
    random: Random,
    key: str | None = None,
) -> Options:
    """The options of a client, from its arguments.

    Replicas come from `endpoints` ("host:port" or "tcp://host:port"), in that order of preference, or else
    from `config`, or else from the configuration file that is found. The one called `replica` is preferred.
    If none is named and there are no endpoints, it may be any, so that clients spread over all replicas. `key` is the
    file of the key to log in with, if not the one that the configuration names. It needs a configuration: that leads to
    the keys by which replicas are known.

    Raises:
        ConfigError: an endpoint, a name or a file of keys is wrong, or the configuration found cannot be used.
        TypeError, ValueError: `timeout` or `tries` is no number, or not above 0.
    """
    if endpoints is None or key is not None:
        config = config or load_config(None)
    if endpoints is None:
        assert config is not None
        options = _from_config(config, replica, random)
    else:
        options = _from_endpoints(endpoints, replica)
    if config is not None:
        options = _with_login(_with_config(options, config), config, key)
    if timeout is not None:
        options = replace(options, timeout=check_timeout(timeout))
    if tries is not None:
        options = replace(options, tries=_check_tries(tries))
    return options


def _from_endpoints(endpoints: str | Sequence[str], replica: str | None) -> Options:
    given = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    if not given:
        raise ConfigError("endpoints: found none; allowed: one or more of host:port")
    complete = tuple(_complete(endpoint) for endpoint in given)
    names = tuple(endpoint.removeprefix("tcp://") for endpoint in complete)
    if len(set(names)) < len(names):
        raise ConfigError(f"endpoints: found one twice among {', '.join(names)}; allowed: each once")
    options = Options(names, complete, tuple(range(len(names))))
    return replace(options, order=_order(len(names), options.index_of(replica) or 0))


def _from_config(config: Config, replica: str | None, random: Random) -> Options:
    everybody, n = config.everybody, config.n
    preferred = random.randrange(n) if replica is None else config.place_of(replica)
    observers = range(n, len(everybody))
    return Options(
        tuple(address.name for address in everybody),
        tuple(address.client_endpoint for address in everybody),
        _order(n, preferred if preferred < n else random.randrange(n)),
        observers=tuple(random.sample(observers, len(observers))),
        first=(preferred,) if preferred >= n else (),
    )


def _order(count: int, preferred: int) -> tuple[int, ...]:
    """All replicas from the preferred one on: clients of a dead replica spread over the others."""
    return tuple((preferred + step) % count for step in range(count))


def _complete(endpoint: str) -> str:
    if type(endpoint) is not str:
        raise TypeError(f"an endpoint must be a str like host:port, not {type(endpoint).__name__}")
    match = _ENDPOINT.fullmatch(endpoint)
    try:
        if match is None or not 0 < int(match[3]) < 65536:
            raise ValueError  # noqa: TRY301 - what is said of all that is wrong stands below, once
        host = Host().read(match[1] or match[2])
        if (":" in host) != bool(match[1]):
            raise ValueError  # noqa: TRY301
    except ValueError:
        allowed = f"host:port with a port from 1 to 65535, and as host a {Host().allowed}"
        raise ConfigError(f"endpoints: found {show(endpoint)}; allowed: {allowed}") from None
    return endpoint if "://" in endpoint else f"tcp://{endpoint}"


def _with_config(options: Options, config: Config) -> Options:
    return replace(
        options,
        cluster=config.fingerprint,
        max_batch=config.max_batch,
        max_frame=config.max_frame,
        timeout=config.client.timeout,
        tries=config.client.tries,
    )


def _with_login(options: Options, config: Config, key: str | None) -> Options:
    login = client_login(config, key)
    if login is None:
        return options
    known = dict(zip((replica.client_endpoint for replica in config.everybody), login.servers, strict=True))
    for endpoint in options.endpoints:
        if endpoint not in known:
            raise ConfigError(
                f"endpoints: found {show(endpoint)}; allowed: replicas of {config.source}, whose keys are known: "
                f"{', '.join(known)}"
            )
    return replace(options, login=login._replace(servers=[known[endpoint] for endpoint in options.endpoints]))


def check_timeout(timeout: float) -> float:
    """The timeout, if it is one.

    Raises:
        TypeError: it is no number.
        ValueError: it is not above 0, or not finite.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be seconds as a number, not {type(timeout).__name__}")
    if not 0 < timeout < inf:
        raise ValueError(f"timeout is {timeout}; it must be a number of seconds above 0")
    return timeout


def _check_tries(tries: int) -> int:
    if type(tries) is not int:
        raise TypeError(f"tries must be an int, not {type(tries).__name__}")
    if tries < 1:
        raise ValueError(f"tries is {tries}; it must be 1 or more")
    return tries
