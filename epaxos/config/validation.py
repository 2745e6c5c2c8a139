"""From the content of a file and the environment to a `Config`, or to everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from epaxos.config.keys import KEYS, OBSERVERS, REPLICAS, SECURITY, TOP, keys_of
from epaxos.config.model import (
    ClientConfig,
    Config,
    HttpConfig,
    ReplicaAddress,
    SecurityConfig,
    StorageConfig,
)
from epaxos.config.replicas import read_replicas
from epaxos.config.settings import Setting, Settings, read_defaults, read_document, read_environment
from epaxos.errors import ConfigError
from epaxos.protocol.quorums import default_e, default_f

FRAME_OVERHEAD: Final = 4096
"""Bytes of a frame beside key and values: headers, and dependencies for some hundred replicas."""


def make_config(
    document: Mapping[str, object], source: str = "configuration", environ: Mapping[str, str] | None = None
) -> Config:
    """Validate what a file says, with the variables of `environ` that override it.

    `document` is the file as its parser gives it; keys it does not have get their defaults, which do not
    include replicas. `source` names the file in messages.

    Raises:
        ConfigError: something is wrong; one line for each problem.
    """
    problems: list[str] = []
    settings = read_defaults(source)
    read_document(document, source, settings, problems)
    read_environment(environ or {}, settings, problems)
    problems += _wrong_orders(settings)
    problems += _wrong_frame(settings)
    problems += _wrong_security(settings)
    tables = document.get(REPLICAS)
    replicas, observers = read_replicas(tables, document.get(OBSERVERS, []), source, problems)
    if isinstance(tables, list) and tables:
        problems += _wrong_quorums(settings, len(tables))
    if problems:
        raise ConfigError("\n".join(problems))
    return _build(settings, replicas, observers, source)


_ORDERS: Final = (
    # Else every idle peer is taken for offline between two of its beacons.
    ("beacon", "timeout", "less than"),
    # Else a PreAccept is sent again to the very peers whose answers are still waited for.
    ("fast_path_timeout", "retry", "at most"),
    # Else a full batch is answered `busy` for ever.
    ("max_batch", "max_pending", "at most"),
)
"""Which key must be below which other one, and whether both may be equal."""

_MIRRORED: Final = {"less than": "more than", "at most": "at least"}


def _wrong_orders(settings: Settings) -> Iterator[str]:
    """A problem for each pair of keys in the wrong order; it points to the one that the user has set."""
    for low_path, high_path, words in _ORDERS:
        low, high = settings.get(low_path), settings.get(high_path)
        if low is None or high is None:
            continue
        if low.value < high.value or (low.value == high.value and words == "at most"):
            continue
        if low.default:
            yield _problem(high, f"{_MIRRORED[words]} {low_path}, which is {low.elsewhere}")
        else:
            yield _problem(low, f"{words} {high_path}, which is {high.elsewhere}")


def _wrong_frame(settings: Settings) -> Iterator[str]:
    """A problem if the largest command, a compare-and-swap of two values, does not fit a frame."""
    frame, key, value = (settings.get(path) for path in ("max_frame", "max_key", "max_value"))
    if frame is None or key is None or value is None:
        return
    needed = key.value + 2 * value.value + FRAME_OVERHEAD
    if frame.value < needed:
        reason = f"max_key {key.elsewhere} + 2 * max_value {value.elsewhere} + {FRAME_OVERHEAD}"
        yield _problem(frame, f"at least {needed}, which is {reason}")


_DEFAULTS: Final = {key.path: key.default for key in KEYS}


def _wrong_security(settings: Settings) -> Iterator[str]:
    """A problem for what would be ignored: who names a key or a certificate does not want to do without."""
    keys, insecure = settings.get("security.keys"), settings.get("security.insecure")
    if keys is None:
        return
    if keys.value:
        if insecure is not None and insecure.value:
            yield _problem(insecure, f"false with security.keys, which is {keys.elsewhere}")
        return
    for path in ("security.key", "security.certificate"):
        setting = settings.get(path)
        if setting is not None and setting.raw != _DEFAULTS[path]:
            yield _problem(setting, f"only with security.keys; it is {keys.elsewhere}")


def _wrong_quorums(settings: Settings, n: int) -> Iterator[str]:
    """A problem if f, or e, is impossible with `n` replicas."""
    f, e = settings.get("f"), settings.get("e")
    if f is not None and f.value > default_f(n):
        yield _problem(f, f"{_up_to(default_f(n))} with n = {n}")
        return
    crashes = default_f(n) if f is None else f.value
    if e is not None and e.value > default_e(n, crashes):
        yield _problem(e, f"{_up_to(default_e(n, crashes))} with n = {n} and f = {crashes}")


def _up_to(largest: int) -> str:
    """The integers from 0 to `largest` in words."""
    return "0" if largest == 0 else f"0 to {largest}"


def _problem(setting: Setting, allowed: str) -> str:
    """A value that is allowed by itself, but not beside others."""
    return f"{setting.place}: found {setting.found}; allowed: {allowed}"


def _build(
    settings: Settings,
    replicas: tuple[ReplicaAddress, ...],
    observers: tuple[ReplicaAddress, ...],
    source: str,
) -> Config:
    """Put valid settings in place."""
    n = len(replicas)
    values = {path: setting.value for path, setting in settings.items()}
    f = values.setdefault("f", default_f(n))
    values.setdefault("e", default_e(n, f))
    return Config(
        **_section(values, TOP),
        client=ClientConfig(**_section(values, "client")),
        storage=StorageConfig(**_section(values, "storage")),
        http=HttpConfig(**_section(values, "http")),
        security=SecurityConfig(**_section(values, SECURITY)),
        replicas=replicas,
        observers=observers,
        source=source,
    )


def _section(values: Mapping[str, Any], table: str) -> dict[str, Any]:
    """The values of one table by the names of their keys."""
    return {key.name: values[key.path] for key in keys_of(table)}
