"""Traces for OpenTelemetry: one trace per agent and campaign, from the brief to the post, carried by `traceparent` in the records.

The rule not to break: ids are computed from what the records say anyway (stream, correlation, record id, causation), so that every
process draws the same tree without asking another, and tracing decides nothing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chimera.events.envelope import NewRecord
from chimera.events.state import Ruling

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def trace_id(key: str, correlation: str) -> int:
    """The trace of one agent's campaign (or of one command without a campaign): 128 bits of a hash, never 0."""
    return int.from_bytes(hashlib.sha256(f"{key}\n{correlation}".encode()).digest()[:16], "big") or 1


def span_id(record_id: str) -> int:
    """The span of one record: 64 bits of a hash, never 0."""
    return int.from_bytes(hashlib.sha256(record_id.encode()).digest()[:8], "big") or 1


def traceparent(key: str, correlation: str, record_id: str) -> str:
    """The W3C header (version 00, sampled) of a record: its trace and its own span."""
    return f"00-{trace_id(key, correlation):032x}-{span_id(record_id):016x}-01"


class Traces:
    """Draws spans. `exporter` sends them; each is drawn once it is over, so nothing is held open."""

    def __init__(self, process: str, exporter: SpanExporter, *, at_once: bool = False) -> None:
        """`at_once` exports each span as it ends (tests); otherwise in the background, in batches."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        self._ids = _ids()
        self._provider = TracerProvider(resource=Resource({"service.name": f"chimera-{process}"}), id_generator=self._ids)
        self._provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("chimera")

    def parent(self, key: str, correlation: str, record_id: str) -> str:
        """The header of a record that is about to be appended."""
        return traceparent(key, correlation, record_id)

    def said(self, new: NewRecord, ruling: Ruling | None, seconds: float) -> None:
        """A record was appended and ruled just now, which took so long; `ruling` None where it is not known yet."""
        now = time.time()
        told = {"chimera.type": new.data.TYPE, "chimera.record": new.id, "chimera.stream": new.key, "chimera.actor": new.actor}
        if ruling is not None:
            told |= {
                "chimera.outcome": ruling.outcome,
                "chimera.reason": ruling.reason,
                "chimera.state_version": str(ruling.version),
            }
        self._draw(new.data.TYPE, trace_id(new.key, new.correlation), span_id(new.id), new.causation, now - seconds, now, told)

    def called(self, key: str, correlation: str, name: str, seconds: float, told: Mapping[str, str]) -> None:
        """A tool was called; it ended just now."""
        now = time.time()
        own = int.from_bytes(os.urandom(8), "big") or 1
        self._draw(f"call {name}", trace_id(key, correlation), own, "", now - seconds, now, {"chimera.stream": key, **told})

    def close(self) -> None:
        """Send what is left; bounded by the exporter's own timeout."""
        self._provider.shutdown()

    def _draw(self, name: str, trace: int, span: int, causation: str, began: float, ended: float, told: Mapping[str, Any]) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        context = Context()
        if causation:
            above = SpanContext(trace, span_id(causation), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
            context = set_span_in_context(NonRecordingSpan(above), context)
        with self._ids.given(trace, span):
            drawn = self._tracer.start_span(name, context=context, start_time=int(began * 1e9), attributes=dict(told))
        drawn.end(int(ended * 1e9))


def from_environment(process: str) -> Traces | None:
    """Traces to the endpoint that the environment names; None where it names none."""
    named = [name for name in ENDPOINTS if os.environ.get(name)]
    if not named or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return Traces(process, OTLPSpanExporter())
    except ImportError as error:
        log.warning("%s is set, but %s is not installed: no traces; install chimera-swarm[otel]", named[0], error.name)
        return None


def _ids() -> Any:
    """An id generator that gives what it was told to give; made here, since its base class is optional."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Given(RandomIdGenerator):
        def __init__(self) -> None:
            self._next = threading.local()

        def given(self, trace: int, span: int) -> Given:
            self._next.ids = (trace, span)
            return self

        def __enter__(self) -> None:
            return None

        def __exit__(self, *_: object) -> None:
            self._next.ids = None

        def generate_trace_id(self) -> int:
            ids: tuple[int, int] | None = getattr(self._next, "ids", None)
            return ids[0] if ids else super().generate_trace_id()

        def generate_span_id(self) -> int:
            ids: tuple[int, int] | None = getattr(self._next, "ids", None)
            return ids[1] if ids else super().generate_span_id()

    return Given()
