"""One partition's fold: decode, verify, rule, for every agent and tenant whose log lies here, and the law in force.

The rule not to break: records go in strictly in offset order, without a hole; whoever reads must assert it before calling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from chimera.events.envelope import LAW_KEY_PREFIX, Record, decode_claimed, key_id, verified
from chimera.events.fold import fold, fold_tenant
from chimera.events.headers import Claim
from chimera.events.law import LAW
from chimera.events.raw import RawRecord
from chimera.events.records import LawAdopted
from chimera.events.state import Agent, Law, Ruling
from chimera.events.tenant import Tenant

ROOT_ROLE = "root"
TENANT_KEY_PREFIX = "tenant/"
AHEAD = 32
"""Records that are decoded in a row; with what they are made of they fit into a core's cache."""


class UnknownLaw(Exception):
    """The log adopted a law that this code does not have: a reader that went on would rule differently. It must stop."""


class PartitionFold:
    """State of one partition of `chimera.log`.

    Args:
        partition: its number.
        partitions: how many the topic has (for ever).
        root_public: the root public key (base64) pinned in the settings; LawAdopted must be signed by it.
        place: `place(key, partitions)` of the event log, total: a key that belongs elsewhere or nowhere is unreadable here.
    """

    def __init__(self, partition: int, partitions: int, root_public: str, place: Callable[[str, int], int] | None = None) -> None:
        self.partition = partition
        self.partitions = partitions
        self.agents: dict[str, Agent] = {}
        self.tenants: dict[str, Tenant] = {}
        self.law = Law(
            number=LAW, root=key_id(root_public) if root_public else "", public=_by_id([root_public] if root_public else [])
        )
        self.next_offset = 0
        self.unreadable = 0
        self._place = place
        self._placed: dict[str, bool] = {}

    @property
    def streams(self) -> int:
        """How many agents and tenants live here."""
        return len(self.agents) + len(self.tenants)

    def state(self, key: str) -> Agent | Tenant | None:
        """The state of the stream of that key, None where there is none."""
        return self.tenants.get(key) if key.startswith(TENANT_KEY_PREFIX) else self.agents.get(key)

    def apply(self, raw: RawRecord) -> tuple[Record, Ruling]:
        """Decode, verify and rule one record.

        Raises:
            UnknownLaw: the record is an applied LawAdopted with a law number beyond this code's.
        """
        return self.rule(self.read(raw))

    def read(self, raw: RawRecord) -> Record:
        """Decode and verify (the part that may run ahead of the fold, as long as no LawAdopted lies in between)."""
        record, claimed = self._decode(raw)
        if claimed is not None:
            self._verify(record, claimed)
        return record

    def read_ahead(self, raws: Iterable[RawRecord]) -> Iterator[Record]:
        """`read` for many: some are decoded in a row, then their signatures are verified, then they are given out.

        Each step finds its code in the core's cache, from which turns of all steps drive each other out (decision 0149). Whoever
        takes these records rules each before asking for the next: behind a record of the law nothing is read before it is ruled.
        """
        records: list[Record] = []
        signed: list[tuple[Record, Claim]] = []
        for raw in raws:
            record, claimed = self._decode(raw)
            records.append(record)
            if claimed is not None:
                signed.append((record, claimed))
            if len(records) >= AHEAD or record.key.startswith(LAW_KEY_PREFIX):
                for one, claim in signed:
                    self._verify(one, claim)
                yield from records
                records, signed = [], []
        for one, claim in signed:
            self._verify(one, claim)
        yield from records

    def _decode(self, raw: RawRecord) -> tuple[Record, Claim | None]:
        """The record, whether it belongs here, and the signature that is to be verified of one that does."""
        record, claimed = decode_claimed(raw)
        if record.defect is not None:
            return record, None
        if self._placed.get(record.key) or self._belongs_here(record.key):
            return record, claimed
        # Nobody else has seen this record yet: what is found out about it is written into it, which a copy costs six times.
        record.defect, record.data = "key belongs to another partition", None
        return record, None

    def _verify(self, record: Record, claim: Claim) -> None:
        public = self.law.public.get(claim[0])
        if public is not None and verified(record, claim[1], public):
            record.signed_by = claim[0]

    def rule(self, record: Record) -> tuple[Record, Ruling]:
        """Rule a record that `read` returned."""
        self.next_offset = record.offset + 1
        key = record.key
        agent = self.agents.get(key)
        if agent is None:
            if key.startswith(LAW_KEY_PREFIX):
                return record, self._adopt(record)
            if key.startswith(TENANT_KEY_PREFIX):
                return record, self._rule_tenant(record)
            if record.defect is not None:
                self.unreadable += 1
        folded, ruling = fold(self.law, agent, record)
        if folded is not agent and folded is not None:
            self.agents[key] = folded
        return record, ruling

    def _rule_tenant(self, record: Record) -> Ruling:
        tenant = self.tenants.get(record.key)
        if record.defect is not None:
            self.unreadable += 1
        folded, ruling = fold_tenant(self.law, tenant, record)
        if folded is not None:
            self.tenants[record.key] = folded
        return ruling

    def _adopt(self, record: Record) -> Ruling:
        """Next edition, law not below the one in force, signed by the pinned root key."""
        d = record.data
        if record.defect is not None:
            self.unreadable += 1
            return Ruling("void", "unreadable", 0, 0)
        if not isinstance(d, LawAdopted):
            return Ruling("void", "unknown_type", 0, 0)
        if not self.law.root or record.signed_by != self.law.root:
            return Ruling("void", "forged", 0, 0)
        if d.edition != self.law.edition + 1:
            return Ruling("void", "duplicate" if d.edition <= self.law.edition else "conflict", 0, 0)
        if d.law < self.law.number:
            return Ruling("void", "conflict", 0, 0)
        if d.law > LAW:
            raise UnknownLaw(
                f"partition {self.partition} adopts law {d.law} at offset {record.offset}; this code knows {LAW}: upgrade"
            )
        keys = {role: frozenset(_by_id(publics)) for role, publics in d.keys.items()}
        public = dict(self.law.public)
        for publics in d.keys.values():
            public.update(_by_id(publics))
        ever = self.law.ever | {role: self.law.ever.get(role, frozenset()) | ids for role, ids in keys.items()}
        self.law = Law(number=d.law, edition=d.edition, keys=keys, public=public, ever=ever, root=self.law.root)
        return Ruling("applied", "", 0, 0)

    def _belongs_here(self, key: str) -> bool:
        if self._place is None:
            return True
        known = self._placed.get(key)
        if known is None:
            known = self._placed[key] = self._place(key, self.partitions) == self.partition
        return known


def _by_id(publics: list[str]) -> dict[str, str]:
    """Key id -> public key of those that are keys at all."""
    found = {}
    for public in publics:
        try:
            found[key_id(public)] = public
        except ValueError:
            continue
    return found
