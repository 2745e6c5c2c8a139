"""A cluster of real replicas on this machine: processes of `epaxos serve` on free ports, gone when the test is over."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, Self, overload

import toml

from epaxos.client.asynchronous import AsyncClient
from epaxos.client.blocking import Client
from epaxos.client.codecs import Codec, V
from epaxos.config import Config, default_replicas, load_config, place
from epaxos.node import Node
from epaxos.security.making import Listing, add_client, init_keys
from epaxos.statemachine.hosted import Machine
from epaxos.testing.processes import ClusterFailed, Ports, Process

__all__ = ["ClusterFailed", "LocalCluster", "local_nodes"]

PORT_KEYS: Final = ("port", "client_port", "metrics_port")
READY_TIMEOUT: Final = 60.0  # seconds; a busy machine takes some
_NAP: Final = 0.01
_RELOADED: Final = "read the lists of keys"
_ROOT: Final = str(Path(__file__).parents[2])
"""Where this package is, be it installed or not."""


class LocalCluster:
    """A cluster of `replicas` replicas, called alpha, bravo, charlie, …, that begins with no data.

        with LocalCluster() as cluster, cluster.client() as client:
            client.put(b"key", b"value")
            cluster.kill("bravo")
            assert client.get(b"key") == b"value"

    State is in memory, so that nothing waits for a disk, and a replica that was killed cannot come back: its peers
    refuse one that has forgotten what it promised. With `durable` it is on disk, and it can.

    With `redis` each replica has a Redis door, on the `redis_port` of its entry in `config.replicas`.

    With `secure` it lets in who has a key: `client` comes in as an admin, and `key` of another file may be given to it.

    `settings` are keys of the configuration as a file has them: `client={"timeout": "1s"}`. `directory` holds the
    configuration file, logs and data; if none is given, a temporary one, which goes when the cluster closes.

    config   the configuration, for clients
    path     its file
    keys     the directory of the keys of one that is secure

    Needs the extra `server`. Should the program that started them be killed, the replicas notice it and end.

    Raises:
        ClusterFailed: it could not be started, or a replica did not do as it was told.
        ConfigError: the settings are wrong.
        TypeError, ValueError: `replicas` is no number, or below 1.
    """

    def __init__(
        self,
        replicas: int = 3,
        *,
        durable: bool = False,
        redis: bool = False,
        secure: bool = False,
        directory: Path | None = None,
        **settings: Any,
    ) -> None:
        if type(replicas) is not int:
            raise TypeError(f"replicas must be a number, not {type(replicas).__name__}")
        if replicas < 1:
            raise ValueError(f"replicas is {replicas}; it must be at least 1")
        self._processes: dict[str, Process] = {}
        with ExitStack() as held:
            if directory is None:
                directory = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="epaxos-")))
            self.directory = directory
            self.directory.mkdir(parents=True, exist_ok=True)
            self.working_directory = self.directory
            self.path = self.directory / "epaxos.toml"
            keys = (*PORT_KEYS, "redis_port") if redis else PORT_KEYS
            ports = held.enter_context(closing(Ports(replicas * len(keys))))
            storage = {"engine": "sqlite" if durable else "memory"}
            security = {"security": {"keys": "keys"}} if secure else {}
            self.path.write_text(_file(replicas, ports, {"storage": storage} | security | settings, keys))
            self.config: Config = load_config(str(self.path), environ={})
            self.keys = Path(self.config.security.keys)
            self._token = ""
            if secure:
                init_keys(self.config, self.keys)
                self._token = add_client(self.keys, "metrics", Listing("read"), token=True)
            self.durable = self.config.storage.engine != "memory"
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        try:
            return self.start().wait_until_ready()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def names(self) -> list[str]:
        """The names of all replicas, in the order of their rows."""
        return [replica.name for replica in self.config.replicas]

    @property
    def running(self) -> list[str]:
        """The names of the replicas that were started, and not stopped or killed."""
        return list(self._processes)

    @overload
    def client(self, replica: str | None = None, *, codec: None = None, **options: Any) -> Client[bytes]: ...
    @overload
    def client(self, replica: str | None = None, *, codec: Codec[V], **options: Any) -> Client[V]: ...
    def client(self, replica: str | None = None, **options: Any) -> Client[Any]:
        """A blocking client that prefers `replica`; `options` are those of `Client`."""
        return Client(config=self.config, replica=replica, **options)

    @overload
    def async_client(
        self, replica: str | None = None, *, codec: None = None, **options: Any
    ) -> AsyncClient[bytes]: ...
    @overload
    def async_client(
        self, replica: str | None = None, *, codec: Codec[V], **options: Any
    ) -> AsyncClient[V]: ...
    def async_client(self, replica: str | None = None, **options: Any) -> AsyncClient[Any]:
        """An asyncio client that prefers `replica`; `options` are those of `AsyncClient`."""
        return AsyncClient(config=self.config, replica=replica, **options)

    # -- replicas ------------------------------------------------------------------------------------------

    def start(self, *names: str, options: Sequence[str] = ()) -> Self:
        """Start replicas, all if none is named, without waiting for them; `options` go to `epaxos serve`."""
        for name in names or self.names:
            if name in self._processes:
                raise ClusterFailed(f"{name} runs already")
            arguments = ("serve", "--supervised", "--name", name, *options)
            self._processes[name] = self.spawn_command(f"{name}.log", *arguments, kind=self.names.index(name))
        return self

    def wait_until_ready(self, timeout: float = READY_TIMEOUT) -> Self:
        """Wait until all replicas that were started hear one another and serve, for `timeout` seconds at most.

        Fewer than a quorum serve nobody; of these it is enough that they hear one another.
        """
        deadline = time.monotonic() + timeout
        names = self.running
        while not all(self.heard_by(name) >= len(names) - 1 and self._has_started(name) for name in names):
            self.check()
            if time.monotonic() > deadline:
                logs = (f"--- {name}\n{self._processes[name].tail}" for name in names)
                raise ClusterFailed("\n".join([f"not ready after {timeout:g} s", *logs]))
            time.sleep(_NAP)
        return self

    def heard_by(self, name: str) -> int:
        """How many peers a replica hears; -1 if it does not answer."""
        try:
            return len(re.findall(r"^epaxos_peer_up\{.*\} 1\.0$", self.metrics(name), re.MULTILINE))
        except OSError:
            return -1

    def _has_started(self, name: str) -> bool:
        """Whether a replica has caught up with a quorum since it began, or there is none to catch up with."""
        try:
            told = json.loads(self._page(name, "healthz"))
        except urllib.error.HTTPError as error:  # what is not ready says why
            told = json.loads(error.read())
        except OSError:
            return False
        return "starting" not in told["reasons"] or len(self.running) < told["quorum"]

    def metrics(self, name: str) -> str:
        """A replica's page /metrics; raises OSError if it does not answer."""
        return self._page(name, "metrics")

    def _page(self, name: str, page: str) -> str:
        replica = self.config.replica(name)
        url = f"http://{place(replica.host, replica.metrics_port)}/{page}"
        asked = urllib.request.Request(url, headers=self._authorization)
        with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310
            return str(answer.read().decode())

    @property
    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def reload(self) -> None:
        """Have all replicas read the lists of keys again, and wait until they have."""
        before = {name: process.printed.count(_RELOADED) for name, process in self._processes.items()}
        for process in self._processes.values():
            process.send(signal.SIGHUP)
        deadline = time.monotonic() + READY_TIMEOUT
        while any(
            process.printed.count(_RELOADED) == before[name] for name, process in self._processes.items()
        ):
            self.check()
            if time.monotonic() > deadline:
                raise ClusterFailed(f"the lists of keys were not read within {READY_TIMEOUT:g} s")
            time.sleep(_NAP)

    def check(self) -> None:
        """Raise if a replica has ended by itself."""
        for name, process in self._processes.items():
            if process.status is not None:
                raise ClusterFailed(f"{name} ended with status {process.status}:\n{process.tail}")

    def log(self, name: str) -> str:
        """All that the processes of a replica have printed so far."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def stop(self, *names: str) -> None:
        """Stop replicas in order, all if none is named; raise if one does not, or ended with an error."""
        stopping = {name: self._take(name) for name in names or self.running}
        for process in stopping.values():
            process.send(signal.SIGTERM)
        try:
            for name, process in stopping.items():
                status = process.wait()
                if status:
                    raise ClusterFailed(f"{name} ended with status {status} when stopped:\n{process.tail}")
        finally:
            for process in stopping.values():
                process.kill()

    def kill(self, *names: str) -> None:
        """Kill replicas with SIGKILL, all if none is named."""
        for name in names or self.running:
            self._take(name).kill()

    def restart(self, *names: str) -> Self:
        """Kill replicas that run, all if none is named, start these again, and wait until they are back."""
        if not self.durable:
            raise ClusterFailed(
                "a replica that kept its state in memory cannot come back; use LocalCluster(durable=True)"
            )
        for name in names or self.names:
            if name in self._processes:
                self.kill(name)
        return self.start(*names).wait_until_ready()

    def pause(self, *names: str) -> None:
        """Suspend replicas, as a machine that hangs, until `resume`."""
        for name in names:
            self.process(name).send(signal.SIGSTOP)

    def resume(self, *names: str) -> None:
        """Let suspended replicas go on."""
        for name in names:
            self.process(name).send(signal.SIGCONT)

    def process(self, name: str) -> Process:
        """The process of a running replica."""
        if name not in self._processes:
            raise ClusterFailed(f"{name} does not run; running: {', '.join(self._processes) or 'none'}")
        return self._processes[name]

    def _take(self, name: str) -> Process:
        process = self.process(name)
        del self._processes[name]
        return process

    # -- processes -----------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """The environment of all processes: this package and this configuration, no other setting of ours."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("EPAXOS_")}
        paths = [_ROOT, *filter(None, [kept.get("PYTHONPATH")])]
        return kept | {"PYTHONPATH": os.pathsep.join(paths), "EPAXOS_CONFIG": str(self.path), "NO_COLOR": "1"}

    def spawn_command(self, log: str, *arguments: str, kind: int | None = None) -> Process:
        """Start the command `epaxos` for this cluster, with all it prints in the file `log`; see `Process`."""
        return Process(arguments, self.directory / log, self.environment, self.working_directory, kind)

    def close(self) -> None:
        """Kill what still runs, give the ports back, and remove the temporary directory."""
        for process in self._processes.values():
            process.kill()
        self._processes.clear()
        self._held.close()


def _file(replicas: int, ports: Ports, settings: Mapping[str, Any], keys: Sequence[str] = PORT_KEYS) -> str:
    """The text of a configuration with a port of these for each purpose."""
    numbers = iter(ports.numbers)
    those = [replica | {key: next(numbers) for key in keys} for replica in default_replicas(replicas)]
    return toml.dumps({"name": "test", **settings, "replicas": those})


@contextmanager
def local_nodes(
    state_machine: Callable[[], Machine] | None = None, replicas: int = 3, **settings: Any
) -> Iterator[list[Node]]:
    """A cluster within this process: each replica a `Node`, with a state machine of its own that the function makes.

    State is in memory, unless `settings` (as of `LocalCluster`) name a `storage`; ready when it is yielded.
    """
    machines = [state_machine() if state_machine else None for _ in range(replicas)]
    chosen: dict[str, Any] = {"storage": {"engine": "memory"}}
    if machines[0] is not None:
        chosen["machine"] = machines[0].name
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="epaxos-"))
        ports = stack.enter_context(closing(Ports(replicas * len(PORT_KEYS))))
        path = Path(directory) / "epaxos.toml"
        path.write_text(_file(replicas, ports, chosen | settings))
        config = load_config(str(path), environ={})
        named = zip(config.replicas, machines, strict=True)
        nodes = [Node(config, replica.name, state_machine=machine) for replica, machine in named]
        for node in nodes:
            stack.callback(node.start().stop, drain=False)
        for node in nodes:
            node.wait_until_ready()
        yield nodes
