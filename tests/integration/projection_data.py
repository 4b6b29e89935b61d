"""Valid histories on a real log: what a fleet does in a day, bad input included.

Records are made against a fold of what was made before, then appended in that order: offsets come out the same.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from confluent_kafka import Producer

from chimera.commands.keys import log_topics
from chimera.eventlog.cluster import apply
from chimera.eventlog.partitioner import law_key, partition_for
from chimera.events import records as rec
from chimera.events.envelope import NewRecord, SigningKey, encode, record_id, signed_message
from chimera.events.hashes import commit_hash, digest, simhash, text_hash
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.state import Agent, Ruling
from chimera.projections.engine import Projector, catch_up, new_fold
from chimera.projections.schema import migrate

PARTITIONS = 24
INLINE = rec.PolicyInline(
    sensitive_tags=["health"],
    approvers={"publish": ["kim", "lee"]},
    undo_ms=0,
    expiry_ms=86_400_000,
    similar_bits=0,
    taint_auto={"publish": "open"},
)


class Entry(NamedTuple):
    """A record on its way to the log."""

    topic: str
    key: str
    value: bytes
    headers: list[tuple[str, bytes]]
    partition: int
    at: int = 0
    """Append time (ms)."""


@dataclass
class History:
    """Everything appended so far, folded as it was made."""

    topic: str
    root: SigningKey = field(default_factory=SigningKey.generate)
    command: SigningKey = field(default_factory=SigningKey.generate)
    entries: list[Entry] = field(default_factory=list)
    rulings: list[Ruling] = field(default_factory=list)
    partitions: int = PARTITIONS

    def __post_init__(self) -> None:
        self.folds: dict[int, PartitionFold] = {p: new_fold(p, self.partitions, self.root.public) for p in range(self.partitions)}
        self.now = int(time.time() * 1000)
        self.unsent = 0
        for p in range(self.partitions):
            law = rec.LawAdopted(edition=1, law=1, keys={"command": [self.command.public]})
            new = NewRecord(law_key(p), law, "installation", "installer", "2026-11-22T00:00:00Z", record_id("law", law_key(p)))
            self._add(p, encode(new, self.root))

    def add(
        self, key: str, data: rec.Data, *, actor: str = "svc", id_: str | None = None, signed: bool = True, correlation: str = ""
    ) -> Ruling:
        """Append one record, signed where its role must be."""
        new = NewRecord(key, data, "acme", actor, "2026-11-22T00:00:00Z", id_ or str(uuid.uuid4()), correlation=correlation)
        signer = self.command if signed and data.ROLE in ("command", "courier") else None
        return self._add(partition_for(key, self.partitions), encode(new, signer))

    def raw(self, key: str, value: bytes, headers: list[tuple[str, bytes]], partition: int | None = None) -> Ruling:
        """Append any bytes."""
        place = partition_for(key, self.partitions) if partition is None else partition
        return self._add(place, (key, value, headers))

    def again(self, index: int = -1) -> Ruling:
        """A second copy of an earlier record."""
        e = self.entries[index]
        return self._add(e.partition, (e.key, e.value, e.headers))

    def send(self, bootstrap: str) -> dict[int, int]:
        """Append what was made since the last time; the end offsets."""
        # A plain producer: the appender refuses the bad keys that some of these records have.
        producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
        failed: list[object] = []
        for e in self.entries[self.unsent :]:
            while True:
                try:
                    producer.produce(
                        e.topic, e.value, e.key, e.partition, on_delivery=lambda error, _: failed.append(error) if error else None,
                        headers=list(e.headers),
                    )  # fmt: skip
                    break
                except BufferError:
                    producer.poll(0.5)
        assert producer.flush(60) == 0
        assert failed == []
        self.unsent = len(self.entries)
        return {p: fold.next_offset for p, fold in self.folds.items()}

    def raws(self) -> list[RawRecord]:
        """Everything so far as a reader of the log gets it, for those who need no broker."""
        ends, made = dict.fromkeys(range(self.partitions), 0), []
        for e in self.entries:
            made.append(RawRecord(e.topic, e.partition, ends[e.partition], e.at, e.key.encode(), e.value, e.headers))
            ends[e.partition] += 1
        return made

    def agent(self, key: str) -> Agent:
        return self.folds[partition_for(key, self.partitions)].agents[key]

    def _add(self, partition: int, wire: Any) -> Ruling:
        key, value, headers = wire
        fold = self.folds[partition]
        raw = RawRecord(self.topic, partition, fold.next_offset, self.now, key.encode(), value, headers)
        _, ruling = fold.apply(raw)
        self.entries.append(Entry(self.topic, key, value, headers, partition, self.now))
        self.rulings.append(ruling)
        return ruling


def key_of(h: History, name: str) -> str:
    """The stream key of an agent of that name."""
    return f"agent/{uuid.uuid5(uuid.NAMESPACE_DNS, h.topic + name)}"


def enrol(h: History, name: str) -> str:
    """A ready agent; its stream key."""
    key = key_of(h, name)
    for data in (
        rec.AgentEnrolled(command_no=1, name=name, groups=["g"]),
        rec.SoulAdopted(command_no=2, digest="d", soul="# a soul"),
        rec.PolicyAdopted(command_no=3, edition=1, digest="p", editor="mo", inline=INLINE, rules="rules \t of \\ all"),
        rec.AccountLinked(command_no=4, platform="x", account=f"{name}_x"),
        rec.AllowanceSet(command_no=5, limit_usd="100", window_ms=3_600_000),
    ):
        assert h.add(key, data).outcome == "applied"
    return key


def start(h: History, key: str, tasks: int) -> int:
    """A campaign with one research task and `tasks` posts behind it; its number."""
    number = h.agent(key).next_campaign
    brief = {"name": "Autumn \\ sale", "goal": "be read", "ratio": 0.1, "hex": "1e345"}
    started = rec.CampaignStarted(
        command_no=h.agent(key).command_no + 1, campaign_id=f"c{number}", name="Autumn", brief=brief, brief_hash="b"
    )
    assert h.add(key, started, actor="op").outcome == "applied"
    rows = [rec.PlanRow(ordinal=1, kind="research", title="read", criteria=[{"kind": "min_words", "n": 3}])]
    rows += [rec.PlanRow(ordinal=i, kind="post", title=f"post {i}", depends_on=[1], reads=["soul"]) for i in range(2, tasks + 2)]
    plan = rec.PlanDrafted(campaign=number, round=1, brief_edition=1, rows=rows)
    assert h.add(key, plan, actor="planner").outcome == "applied"
    attempt(h, key, number, 1, None)
    vote(h, key, number, 1, 0.95)
    return number


def attempt(h: History, key: str, c: int, o: int, text: str | None, *, tags: list[str] | None = None) -> int:
    """Open the next attempt and answer it; with a text it proposes a post."""
    n = h.agent(key).campaigns[c].tasks[o].attempt + 1
    assert h.add(key, rec.TaskPlanned(campaign=c, ordinal=o, attempt=n), actor="planner").outcome == "applied"
    version = h.agent(key).campaigns[c].tasks[o].input_state_version
    content: dict[str, Any] = {"text": text} if text is not None else {"notes": ["a", 'b "quoted" \\ and\nmore']}
    effect = None if text is None else propose(h, key, version, text)
    made = rec.ArtifactProduced(
        campaign=c, ordinal=o, attempt=n, input_state_version=version, kind="post" if text else "research",
        artifact_hash=digest(content),
        content=content, confidence_score=0.97, risk_tags=tags or [], taint="allowlisted", effect=effect,
        sources=[{"url": "https://example.org/a"}],
    )  # fmt: skip
    assert h.add(key, made, actor="worker").outcome == "applied"
    return n


def propose(h: History, key: str, version: int, text: str) -> rec.EffectProposal:
    fields: dict[str, Any] = {
        "effect_class": "publish", "tool_class": "keyed", "profile": "x", "mode": "sandbox", "tool": "createPosts",
        "schema_sha256": "s",
        "arguments": {"text": text}, "platform": "x", "account": h.agent(key).accounts["x"], "disclosure": "automated",
        "agent": key,
        "input_state_version": version, "salt": uuid.uuid4().hex, "text_hash": text_hash(text), "simhash": f"{simhash(text):016x}",
    }  # fmt: skip
    unhashed = rec.EffectProposal(effect_hash="", **fields)
    return unhashed.model_copy(update={"effect_hash": digest(rec.effect_body(unhashed))})


def vote_fields(h: History, key: str, c: int, o: int) -> dict[str, Any]:
    agent = h.agent(key)
    t = agent.campaigns[c].tasks[o]
    effect = t.effect.hash if t.effect is not None else None
    assert agent.policy is not None
    return {
        "campaign": c, "ordinal": o, "attempt": t.attempt, "policy_edition": agent.policy.edition,
        "input_state_version": t.input_state_version, "artifact_hash": t.artifact_hash, "effect_hash": effect,
        "edit": t.effect.edit if t.effect is not None else 0, "expected_output_version": agent.version + 1,
        "commit_hash": commit_hash(key, f"{c}.{o}", t.input_state_version, t.artifact_hash, effect),
    }  # fmt: skip


def vote(
    h: History,
    key: str,
    c: int,
    o: int,
    confidence: float | None,
    *,
    failed: list[str] | None = None,
    tags: list[str] | None = None,
) -> Ruling:
    verdict = rec.JudgeVerdict(
        judge="content", decision="fail" if failed else "pass", confidence_raw=confidence, confidence=confidence,
        failed_rules=failed or [],
        reasons=[f"rule {r}" for r in failed or []], tags=tags or [], **vote_fields(h, key, c, o),
    )  # fmt: skip
    return h.add(key, verdict, actor="judge")


def publish(h: History, key: str, c: int, o: int) -> None:
    """Claim the approved effect and report the post."""
    t = h.agent(key).campaigns[c].tasks[o]
    assert t.effect is not None
    ids = {"campaign": c, "ordinal": o, "attempt": t.attempt}
    claim = t.effect.claim + 1
    assert (
        h.add(
            key, rec.EffectClaimed(**ids, effect_hash=t.effect.hash, claim=claim, token="t", lease_ms=60_000), actor="gate"
        ).outcome
        == "applied"
    )
    ended = rec.EffectEnded(
        **ids, claim=claim, outcome="executed", token="t", platform_id=f"{c}{o}", url=f"http://x/{c}/{o}", cost_usd="0.01"
    )
    assert h.add(key, ended, actor="gate").outcome == "applied"


def day(h: History, name: str, posts: int = 8) -> str:
    """One agent's day: posts by every route, a card that waits, an edit, a retry, late copies; its stream key."""
    key = enrol(h, name)
    c = start(h, key, posts)
    for o in range(2, posts + 2):
        route, text = o % 8, f"{name} writes post number {o} about the autumn sale, 20 % off"
        attempt(h, key, c, o, text, tags=["health"] if route == 3 else None)
        if route == 2:  # automatic
            vote(h, key, c, o, 0.95)
            publish(h, key, c, o)
        elif route in (3, 4):  # people approve
            vote(h, key, c, o, 0.95 if route == 3 else 0.8)
            h.now += 60_000
            assert (
                h.add(key, rec.HumanApproved(shown_hash="s", comment="fine", **vote_fields(h, key, c, o)), actor="kim").outcome
                == "applied"
            )
            publish(h, key, c, o)
        elif route == 5:  # people reject
            vote(h, key, c, o, 0.75)
            t = h.agent(key).campaigns[c].tasks[o]
            assert t.effect is not None
            no = rec.HumanRejected(
                campaign=c, ordinal=o, attempt=t.attempt, policy_edition=1, effect_hash=t.effect.hash, reason_code="off_brand"
            )
            assert h.add(key, no, actor="lee").outcome == "applied"
        elif route == 6:  # edited, then good enough
            vote(h, key, c, o, 0.85)
            edit(h, key, c, o, text + " (edited)")
            vote(h, key, c, o, 0.99)
            publish(h, key, c, o)
        elif route == 7:  # fails a rule, then a bad value, then passes
            vote(h, key, c, o, 0.9, failed=["length"])
            attempt(h, key, c, o, text + " shorter")
            vote(h, key, c, o, 0.5)
            attempt(h, key, c, o, text + " better")
            vote(h, key, c, o, 0.99)
            publish(h, key, c, o)
        elif route == 0:  # waits
            vote(h, key, c, o, 0.8, tags=["money"])
        else:  # a changed soul makes it stale while it waits for its judge; planned again
            assert h.add(key, rec.SoulAdopted(command_no=h.agent(key).command_no + 1, digest="d2", soul="new")).outcome == "applied"
            assert vote(h, key, c, o, 0.99).reason == "stale"
            attempt(h, key, c, o, text + " again")
            vote(h, key, c, o, 0.99)
            publish(h, key, c, o)
        h.again()  # a late copy of whatever came last
    return key


def edit(h: History, key: str, c: int, o: int, text: str) -> None:
    t = h.agent(key).campaigns[c].tasks[o]
    assert t.effect is not None
    content = {"text": text}
    made = rec.HumanEdited(
        campaign=c, ordinal=o, attempt=t.attempt, policy_edition=1, old_effect_hash=t.effect.hash, edit=t.effect.edit + 1,
        artifact_hash=digest(content), content=content, effect=propose(h, key, t.input_state_version, text),
    )  # fmt: skip
    assert h.add(key, made, actor="lee").outcome == "applied"


def mischief(h: History, key: str) -> None:
    """Bad input of every sort, most of it on one agent's stream, which ends quarantined."""
    n = h.agent(key).command_no
    assert h.add(key, rec.AgentStatusSet(command_no=n + 1, status="paused"), signed=False).reason == "forged"
    good = [
        ("ce_specversion", b"1.0"),
        ("ce_source", b"chimera"),
        ("ce_time", b"t"),
        ("ce_subject", key.encode()),
        ("ce_tenant", b"acme"),
    ]
    good += [("ce_schemaversion", b"1"), ("ce_actor", "müller\t".encode())]
    unheard = [*good, ("ce_type", b"Unheard")]
    assert h.raw(key, b'{"a":"\\\\u0000 C:\\\\x","n":1e200}', [*unheard, ("ce_id", b"2")]).reason == "unknown_type"
    far = "agent/" + "".join(uuid.uuid5(uuid.NAMESPACE_DNS, str(i)).hex for i in range(200))
    stranger = [(n, far.encode() if n == "ce_subject" else v) for n, v in good]
    lost = b'{"campaign": 1,\n "ordinal": 1, "attempt": 1, "reason": "no such agent"}'
    typed = [*stranger, ("ce_type", b"WorkFailed"), ("ce_id", b"4"), ("ce_correlationid", far.encode() * 2)]
    assert h.raw(far, lost, typed).reason == "unknown"
    event = rec.EffectUnknown(campaign=1, ordinal=1, attempt=1, claim=1, reason="nothing there")
    assert h.add(key, event).outcome == "void"
    huge = rec.CampaignStarted(command_no=n + 1, campaign_id="huge", name="huge", brief={"n": 3}, brief_hash="b")
    wire = encode(NewRecord(key, huge, "acme", "op", "2026-11-22T00:00:00Z", "huge"))
    value = wire.value.replace(b'"n":3', b'"n":1e200000')
    message = signed_message(key, "huge", "CampaignStarted", "1", "acme", "op", value)
    headers = [*wire.headers, ("ce_keyid", h.command.id.encode()), ("ce_signature", h.command.sign(message).encode())]
    assert h.raw(key, value, headers).outcome == "applied"
    assert h.raw(key, b'{"a": 1e9999, "b": "\\u0000", "c": NaN}', [*unheard, ("ce_id", b"1")]).reason == "unreadable"
    assert h.raw(key, b"\xff\xfe not json", [*good, ("ce_type", b"WorkFailed"), ("ce_id", b"3")]).reason == "unreadable"
    h.raw("law/notaplace", b"{}", [], partition=3)
    h.raw("tenant/acme", b"\x00\x01", [("x\x00", b"\x00")])


def project_three_days(bootstrap: str, dsn: str, beginning: str) -> tuple[History, dict[int, int]]:
    """Three agents' days and somebody's mischief on a topic of their own, projected into an empty database; and the log's ends."""
    topic = f"{beginning}-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(bootstrap, log_topics(topic))
    h = History(topic)
    for name in ("ava", "ben", "cleo"):
        day(h, name)
    mischief(h, enrol(h, "cy"))
    migrate(dsn)
    ends = h.send(bootstrap)
    projector = Projector(bootstrap, dsn, h.root.public, topic=topic)
    catch_up(projector, ends)
    projector.close()
    return h, ends
