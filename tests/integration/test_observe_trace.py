"""One trace from brief to post, as a collector sees it: real processes, their exporter, and the headers of the records."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chimera.eventlog.read import read_until
from chimera.observe.trace import traceparent
from tests.e2e.house import open_house


class Collector:
    """An OTLP collector that remembers: (service, name, trace id, span id, parent span id)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str, str, str]] = []
        self.url = ""

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    self.spans.append((service, span.name, *ids))


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.timeout(240)
def test_a_brief_its_tasks_and_its_post_are_one_trace_that_the_records_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with open_house("trace") as house:
            names = house.enrol("traced", 1)
            house.start(house.brief("traced", formats=1), names)
            (key,) = [agent.key for agent in house.agents(names)]
            house.until_completed(names)
            wanted = {"CampaignStarted", "PlanDrafted", "TaskPlanned", "ArtifactProduced", "JudgeVerdict"}
            wanted |= {"EffectClaimed", "EffectEnded"}
            mine = [seen.record for seen in house.seen if seen.record.key == key and seen.record.type in wanted]
            (trace,) = {traceparent(key, record.correlation, record.id).split("-")[1] for record in mine}

            def drawn() -> set[str]:
                return {name for _, name, in_trace, *_ in collector.spans if in_trace == trace}

            house.until(lambda: drawn() > wanted, "the collector has every kind of record", 30)
            assert {record.type for record in mine} == wanted, "from the brief to the post"
            house.until(lambda: drawn() >= {"call writer.complete", "call x.createPosts"}, "and every call", 30)
            spans = {span: parent for _, _, in_trace, span, parent in collector.spans if in_trace == trace}
            for record in mine:
                if record.causation in {other.id for other in mine}:
                    own, cause = (traceparent(key, record.correlation, id_).split("-")[2] for id_ in (record.id, record.causation))
                    assert spans[own] == cause
            raws = [raw for batch in read_until(house.addresses.kafka, "chimera.log", range(24)) for raw in batch]
            headers = {
                dict(raw.headers).get("ce_id"): dict(raw.headers).get("traceparent") for raw in raws if raw.key == key.encode()
            }
            for record in mine:
                assert headers[record.id.encode()] == traceparent(key, record.correlation, record.id).encode()
