"""Spans of OpenTelemetry around the calls of all clients of a process, from `trace_calls` on.

Needs the extra `otel`, no more than OpenTelemetry's interface: where the spans go is the program's matter. Keys
and values are in none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from epaxos.client.drivers.calls import Call
from epaxos.errors import ClientError, ConfigError
from epaxos.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

_NOTHING: Final = nullcontext()
_tracer: Tracer | None = None


def trace_calls(provider: TracerProvider | None = None) -> None:
    """Make a span of each call of a client; of the `provider`, or else of the one that the program has set.

    A span is called as the method. It has `db.system.name`, `db.operation.name`, for many commands
    `db.operation.batch.size`, and of a call that failed `error.type`, its status, and `epaxos.may_have_executed`. What
    the error says is left out: it may quote a key or a value.

    Raises:
        ConfigError: the extra `otel` is not installed.
    """
    try:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError("tracing needs OpenTelemetry: pip install 'epaxos[otel]'") from error
    global _tracer  # noqa: PLW0603 - as the providers of OpenTelemetry, it is the process's
    _tracer = trace.get_tracer("epaxos", __version__, provider)


def span(call: Call) -> AbstractContextManager[None]:
    """What a call is done within."""
    return _NOTHING if _tracer is None else _span(call, _tracer)


@contextmanager
def _span(call: Call, tracer: Tracer) -> Iterator[None]:
    from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415 - there is a tracer, so it is there

    attributes: dict[str, str | int] = {"db.system.name": "epaxos", "db.operation.name": call.name}
    if call.commands != 1:
        attributes["db.operation.batch.size"] = call.commands
    with tracer.start_as_current_span(
        call.name,
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,  # its text may quote keys and values
        set_status_on_exception=False,
    ) as made:
        try:
            yield
        except Exception as error:
            kind = type(error).__name__
            made.set_status(Status(StatusCode.ERROR, kind))
            made.set_attribute("error.type", kind)
            if isinstance(error, ClientError):
                made.set_attribute("epaxos.may_have_executed", error.may_have_executed)
            raise
