"""What the tenant's accounts say, as one judging process knows it: so that two hundred agents on one brief do not say the same.

The rule not to break: it only ever makes the judge stricter. It is the process's memory, best effort and bounded; the firm rule is
the fold's, per account (docs/decisions/0040).
"""

from __future__ import annotations

from collections import OrderedDict

from chimera.events.hashes import simhash, text_hash
from chimera.events.state import Agent
from chimera.policy.boardkit import Soul
from chimera.policy.checks.said import claim

REMEMBERED = 50_000
"""Fingerprints per tenant; the oldest are forgotten first (about 200 bytes each)."""
_BANDS = 8
Fingerprint = tuple[str, int]
"""(text hash, SimHash) of a whole text or of its claim."""


class _Tenant:
    """Fingerprints of one tenant, found by any byte of the SimHash that agrees: what differs in at most seven bits shares one."""

    def __init__(self) -> None:
        self.owners: OrderedDict[Fingerprint, str] = OrderedDict()
        self._by_band: dict[tuple[int, int], set[Fingerprint]] = {}

    def enter(self, known: Fingerprint, agent: str) -> None:
        if known in self.owners:
            return
        self.owners[known] = agent
        for band in _bands(known[1]):
            self._by_band.setdefault(band, set()).add(known)
        if len(self.owners) > REMEMBERED:
            self._forget(next(iter(self.owners)))

    def leave(self, known: Fingerprint, agent: str) -> None:
        if self.owners.get(known) == agent:
            self._forget(known)

    def _forget(self, known: Fingerprint) -> None:
        del self.owners[known]
        for band in _bands(known[1]):
            self._by_band[band].discard(known)

    def like(self, asked: Fingerprint, agent: str) -> list[Fingerprint]:
        """Candidates of other agents; the rule measures how near they are."""
        found = set().union(*(self._by_band.get(band, ()) for band in _bands(asked[1])))
        return [known for known in found if self.owners[known] != agent]


def _bands(bits: int) -> list[tuple[int, int]]:
    return [(i, bits >> (8 * i) & 0xFF) for i in range(_BANDS)]


class Elsewhere:
    """The memory of one judging process."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._seen: dict[str, int] = {}

    def saw(self, agent: Agent) -> None:
        """Take in what an agent's accounts have said, as its state has it: after a restart this is where memory comes from."""
        newest = hash(tuple((account, told[-1]) for account, told in agent.fingerprints.items() if told))
        if self._seen.get(agent.key) == newest:
            return
        self._seen[agent.key] = newest
        for told in agent.fingerprints.values():
            for known_hash, known_bits, _, _ in told:
                if known_hash:
                    self._of(agent.tenant).enter((known_hash, known_bits), agent.key)

    def like(self, tenant: str, agent: str, text: str, soul: Soul) -> list[Fingerprint]:
        """What other accounts of the tenant say that may be like this text or its claim."""
        known = self._tenants.get(tenant)
        return [] if known is None else [f for asked in _fingerprints(text, soul) for f in known.like(asked, agent)]

    def enter(self, tenant: str, agent: str, text: str, soul: Soul) -> None:
        """This agent says it from now on. Nothing may be awaited between `like` and this, or two could both be first."""
        for known in _fingerprints(text, soul):
            self._of(tenant).enter(known, agent)

    def leave(self, tenant: str, agent: str, text: str, soul: Soul) -> None:
        """This agent will not say it after all."""
        for known in _fingerprints(text, soul):
            self._of(tenant).leave(known, agent)

    def _of(self, tenant: str) -> _Tenant:
        return self._tenants.setdefault(tenant, _Tenant())


def _fingerprints(text: str, soul: Soul) -> list[Fingerprint]:
    """Of the whole text, and of its claim: two agents greet differently around the same sentence."""
    return [(told, simhash(said)) for said in (text, claim(text, soul)) if (told := text_hash(said))]
