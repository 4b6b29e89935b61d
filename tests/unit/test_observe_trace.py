"""One trace from brief to post: ids come from the records alone, so every process draws its part of the same tree."""

from __future__ import annotations

import re
import time

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chimera.events import records as rec
from chimera.events.envelope import NewRecord, encode
from chimera.events.state import Ruling
from chimera.observe import trace
from chimera.observe.trace import Traces

AVA, BRIEF = "agent/ava", "autumn"


def new(id_: str, data: rec.Data, causation: str = "", key: str = AVA) -> NewRecord:
    return NewRecord(key, data, "acme", "planner@x", "2026-01-01T00:00:00Z", id_, causation, BRIEF)


STARTED = new("r1", rec.CampaignStarted(command_no=1, campaign_id=BRIEF, name="Autumn", brief={}, brief_hash="h"))
PLANNED = new("r2", rec.TaskPlanned(campaign=1, ordinal=1, attempt=1), "r1")


def test_two_processes_draw_one_tree_without_asking_each_other() -> None:
    sent, brain = InMemorySpanExporter(), InMemorySpanExporter()
    one, two = Traces("command", sent, at_once=True), Traces("brain", brain, at_once=True)
    one.said(STARTED, None, 0.0)
    two.said(PLANNED, Ruling("applied", "", 1, 2), 1.0)
    two.called(AVA, BRIEF, "x.createPosts", 0.25, {"chimera.result": "ok"})
    (root,), (task, call) = sent.get_finished_spans(), brain.get_finished_spans()
    assert {span.context.trace_id for span in (root, task, call)} == {trace.trace_id(AVA, BRIEF)}
    assert root.parent is None
    assert task.parent is not None
    assert task.parent.span_id == root.context.span_id == trace.span_id("r1")
    assert (task.name, (task.attributes or {})["chimera.outcome"]) == ("TaskPlanned", "applied")
    assert call.name == "call x.createPosts"
    assert (call.end_time or 0) - (call.start_time or 0) == pytest.approx(0.25e9, rel=0.01)


def test_the_header_that_a_record_carries_names_its_trace_and_its_own_span() -> None:
    header = Traces("brain", InMemorySpanExporter(), at_once=True).parent(AVA, BRIEF, "r2")
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", header)
    assert int(header.split("-")[1], 16) == trace.trace_id(AVA, BRIEF)
    assert ("traceparent", header.encode()) in encode(PLANNED._replace(traceparent=header)).headers


def test_another_agent_with_the_same_campaign_has_a_trace_of_its_own() -> None:
    assert trace.trace_id("agent/bruno", BRIEF) != trace.trace_id(AVA, BRIEF)


def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in trace.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert trace.from_environment("brain") is None


def test_with_an_endpoint_spans_go_there_and_a_dead_one_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    traces = trace.from_environment("brain")
    assert traces is not None
    traces.said(PLANNED, None, 0.0)
    began = time.monotonic()
    traces.close()
    assert time.monotonic() - began < 10
