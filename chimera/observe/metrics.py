"""The figures of one process for Prometheus: instruments for what is timed, a collector for what is only looked at.

The rule not to break: a label's values come from our own code and files, never from what others write into the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from chimera.observe.look import Look

CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
APPEND_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_GAUGES = {
    "agents": "agents of the partitions held here",
    "agents_held": "agents whose own gate is closed: paused, retired or quarantined",
    "quarantined": "agents in quarantine: their log holds unreadable bytes",
    "open_tasks": "tasks that are open or produced",
    "cards": "effects that wait for people",
    "approved": "effects that are approved and not claimed",
    "claims_open": "effects that are claimed or submitted: a call may be under way",
    "copies_owed": "copies that streams owe each other",
    "copies_held": "copies whose record did not count, held before the next try",
    "copies_oldest_seconds": "how long the copy has waited that waits longest of those whose turn it is",
    "security_waiting_bytes": "security events of this home that Kafka did not take yet, in bytes",
    "security_lost": "security events that could be kept nowhere, since this process began; its log tells them",
    "unknown_effects": "effects of which nobody knows whether they happened",
}


class Metrics:
    """All metrics of one process, in a registry of its own."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._calls = Histogram(
            "chimera_call_seconds",
            "Calls of MCP tools, connecting included",
            ("role", "profile", "tool", "result"),
            buckets=CALL_BUCKETS,
            registry=self.registry,
        )
        self._appends = Histogram(
            "chimera_append_seconds",
            "From handing a record over to the broker's answer",
            ("role",),
            buckets=APPEND_BUCKETS,
            registry=self.registry,
        ).labels(role)
        self._append_failures = Counter(
            "chimera_append_failures", "Appends that ended without a position", ("role",), registry=self.registry
        ).labels(role)

    def called(self, profile: str, tool: str, result: str, seconds: float) -> None:
        """A call of a tool ended."""
        self._calls.labels(self.role, profile, tool, result).observe(seconds)

    def appended(self, seconds: float) -> None:
        """A record was appended."""
        self._appends.observe(seconds)

    def append_failed(self) -> None:
        """An append raised."""
        self._append_failures.inc()

    def watch(self, told: Callable[[], Told | None]) -> None:
        """Add what `told` says at each scrape; None while nothing was told."""
        self.registry.register(_Pulled(self.role, told))

    def text(self) -> bytes:
        """The page for Prometheus."""
        return generate_latest(self.registry)


class Told:
    """What a scrape shows beside the instruments."""

    def __init__(self, look: Look, lag_records: Mapping[int, int], lag_seconds: Mapping[int, float], unwell: int) -> None:
        self.look, self.lag_records, self.lag_seconds, self.unwell = look, lag_records, lag_seconds, unwell


class _Pulled:
    def __init__(self, role: str, told: Callable[[], Told | None]) -> None:
        self._role, self._told = role, told

    def collect(self) -> Iterable[Metric]:
        info = GaugeMetricFamily("chimera_process", "This process", labels=("role", "pid"))
        info.add_metric((self._role, str(os.getpid())), 1.0)
        yield info
        told = self._told()
        if told is None:
            return
        yield self._gauge("healthy", "1 where /health says 200", 0.0 if told.unwell else 1.0)
        yield self._by("lag_records", "Records of the log that are not read yet", "partition", told.lag_records)
        yield self._by("lag_seconds", "How long the oldest unread record has waited", "partition", told.lag_seconds)
        yield self._by("position", "Next offset to be read", "partition", told.look.positions)
        yield self._by("jobs_in_flight", "Jobs in flight", "job", told.look.jobs)
        yield self._count("jobs", "Jobs started", told.look.jobs_done)
        yield self._count("job_errors", "Jobs that ended in an error and are tried again", told.look.job_errors)
        if told.look.written:
            yield self._count("projected", "Records written as rows", told.look.written)
        if told.look.checkpoint_age_s is not None:
            yield self._gauge("checkpoint_age_seconds", "Since the last checkpoint was written", told.look.checkpoint_age_s)
        if told.look.snapshot_age_s is not None:
            yield self._gauge("snapshot_age_seconds", "Since all snapshots were last written", told.look.snapshot_age_s)
            yield self._gauge("snapshot_behind_records", "What a restart would fold again", told.look.snapshot_behind)
        for name, count in told.look.counts.items():
            yield self._gauge(name, _GAUGES.get(name, name).capitalize(), count)
        rulings = CounterMetricFamily(
            "chimera_rulings",
            "Records folded here for the first time, by how they were ruled",
            labels=("role", "outcome", "reason", "type"),
        )
        for (outcome, reason, type_), count in sorted(told.look.rulings.items()):
            rulings.add_metric((self._role, outcome, reason, type_), count)
        yield rulings

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"chimera_{name}", text, labels=("role",))
        family.add_metric((self._role,), value)
        return family

    def _count(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"chimera_{name}", text, labels=("role",))
        family.add_metric((self._role,), value)
        return family

    def _by(self, name: str, text: str, label: str, values: Mapping[int, float] | Mapping[str, int]) -> Metric:
        family = GaugeMetricFamily(f"chimera_{name}", text, labels=("role", label))
        for key, value in values.items():
            family.add_metric((self._role, str(key)), float(value))
        return family
