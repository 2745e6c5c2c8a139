from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from epaxos import Op
from epaxos.client import tracing
from epaxos.client.drivers.calls import Ask, Bulk, Call, Command
from epaxos.client.options import Options
from epaxos.errors import ConfigError, NoAnswer

OPTIONS = Options(("alpha",), ("tcp://127.0.0.1:1",), (0,))


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    monkeypatch.setattr(tracing, "_tracer", None)
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.trace_calls(provider)
    yield exporter
    provider.shutdown()


def made_of(call: Call, spans: InMemorySpanExporter, error: Exception | None = None) -> ReadableSpan:
    with suppress(NoAnswer, ValueError), tracing.span(call):
        if error is not None:
            raise error
    (made,) = spans.get_finished_spans()
    return made


@pytest.mark.parametrize(
    ("call", "name", "commands"),
    [
        (Command(Op.cas(b"secret", None, b""), OPTIONS, 0.0, None), "cas", None),
        (Command(Op.multi([Op.get(b"secret")] * 2), OPTIONS, 0.0, None), "multi", 2),
        (Bulk([Op.get(b"secret")] * 3, OPTIONS, 0.0, None), "bulk", 3),
        (Ask(None, OPTIONS, 0.0, None, {"digest": True}), "status", None),
    ],
)
def test_a_call_is_a_span(call: Call, name: str, commands: int | None, spans: InMemorySpanExporter) -> None:
    made = made_of(call, spans)
    assert (made.name, made.kind.name) == (name, "CLIENT")
    wanted: dict[str, object] = {"db.system.name": "epaxos", "db.operation.name": name}
    assert dict(made.attributes or {}) == wanted | ({"db.operation.batch.size": commands} if commands else {})
    assert "secret" not in made.to_json()


def test_a_failure_is_told(spans: InMemorySpanExporter) -> None:
    made = made_of(Command(Op.put(b"k", b""), OPTIONS, 0.0, None), spans, NoAnswer("no answer for secret"))
    assert made.attributes is not None
    assert made.attributes["error.type"] == "NoAnswer"
    assert made.attributes["epaxos.may_have_executed"] is True
    assert (made.status.is_ok, made.status.description, made.events) == (False, "NoAnswer", ())
    assert "secret" not in made.to_json()


def test_so_is_one_of_the_program_itself(spans: InMemorySpanExporter) -> None:
    made = made_of(Command(Op.put(b"k", b""), OPTIONS, 0.0, None), spans, ValueError("secret"))
    assert dict(made.attributes or {})["error.type"] == "ValueError"
    assert (made.status.is_ok, made.status.description, made.events) == (False, "ValueError", ())


def test_without_the_extra_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_tracer", None)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"pip install 'epaxos\[otel\]'"):
        tracing.trace_calls()
    with tracing.span(Command(Op.null(), OPTIONS, 0.0, None)):
        pass
