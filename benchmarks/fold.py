"""What one record costs to decode and to fold, and whether the fold stays flat in the number of open tasks.

`python benchmarks/fold.py [--tasks N]`. Limit beside it: JSON parsing of the same bytes by orjson, in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import orjson

from chimera.events import records as rec
from chimera.events.envelope import NewRecord, Record, decode, encode
from chimera.events.fold import fold
from chimera.events.hashes import commit_hash, digest
from chimera.events.raw import RawRecord
from chimera.events.state import Agent, Law

KEY = "agent/00000000-0000-4000-8000-000000000000"
LAW = Law(keys={"command": frozenset({"bench"})})


class Story:
    """A campaign of `tasks` drafts of one agent: planned, opened all at once, produced, judged."""

    def __init__(self, tasks: int) -> None:
        self.raws: list[RawRecord] = []
        self.records: list[Record] = []
        self._agent: Agent | None = None
        self._tasks = tasks

    def add(self, data: rec.Data) -> None:
        offset = len(self.raws)
        wire = encode(NewRecord(KEY, data, "acme", "bench", "2026-01-01T00:00:00Z", f"id-{offset}"))
        raw = RawRecord("chimera.log", 0, offset, 1_700_000_000_000 + offset, wire.key.encode(), wire.value, wire.headers)
        record = decode(raw)
        if data.ROLE == "command":
            record = Record(**{**{f: getattr(record, f) for f in record.__slots__}, "signed_by": "bench"})
        self.raws.append(raw)
        self.records.append(record)
        self._agent, ruling = fold(LAW, self._agent, record)
        assert ruling.outcome == "applied", (data.TYPE, ruling)

    def tell(self) -> None:
        """Append every record of the story."""
        self.add(rec.AgentEnrolled(command_no=1, name="ava"))
        self.add(rec.SoulAdopted(command_no=2, digest="s", soul="voice"))
        self.add(rec.PolicyAdopted(command_no=3, edition=1, digest="p", editor="eve", inline=rec.PolicyInline()))
        self.add(rec.CampaignStarted(command_no=4, campaign_id="c", name="c", brief={}, brief_hash="b"))
        rows = [rec.PlanRow(ordinal=i + 1, kind="draft", reads=["brief/1"]) for i in range(self._tasks)]
        self.add(rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=rows))
        for i in range(self._tasks):
            self.add(rec.TaskPlanned(campaign=1, ordinal=i + 1, attempt=1))
        assert self._agent is not None
        for i in range(self._tasks):
            at = {"campaign": 1, "ordinal": i + 1, "attempt": 1}
            seen = self._agent.campaigns[1].tasks[i + 1].input_state_version
            content = {"text": f"draft number {i}: chanterelles come up ten days after the first heavy rain of autumn"}
            hashed = digest(content)
            self.add(
                rec.ArtifactProduced(
                    **at,
                    input_state_version=seen,
                    kind="draft",
                    artifact_hash=hashed,
                    content=content,
                    confidence_score=0.95,
                    taint="allowlisted",
                )
            )
            self.add(
                rec.JudgeVerdict(
                    **at,
                    judge="content",
                    decision="pass",
                    confidence_raw=0.95,
                    confidence=0.95,
                    policy_edition=1,
                    input_state_version=seen,
                    artifact_hash=hashed,
                    effect_hash=None,
                    expected_output_version=self._agent.version + 1,
                    commit_hash=commit_hash(KEY, f"1.{i + 1}", seen, hashed, None),
                )
            )


def per_item_us(run: Callable[[], int], rounds: int = 5) -> float:
    """Best of some rounds, microseconds per item."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        items = run()
        best = min(best, (time.perf_counter() - began) / items * 1e6)
    return best


def fold_all(records: Sequence[Record]) -> int:
    agent: Agent | None = None
    for record in records:
        agent, _ = fold(LAW, agent, record)
    return len(records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=400, help="open tasks of the agent (at most 500)")
    told = parser.parse_args()
    print(f"{'open tasks':>12} {'fold us/record':>16} {'decode us/record':>18} {'orjson.loads us':>16}")
    for tasks in dict.fromkeys((10, 100, told.tasks)):
        story = Story(tasks)
        story.tell()
        folded = per_item_us(lambda s=story: fold_all(s.records))
        decoded = per_item_us(lambda s=story: sum(1 for raw in s.raws if decode(raw)))
        parsed = per_item_us(lambda s=story: sum(1 for raw in s.raws if orjson.loads(raw.value or b"")))
        print(f"{tasks:>12} {folded:>16.2f} {decoded:>18.2f} {parsed:>16.2f}")


if __name__ == "__main__":
    main()
