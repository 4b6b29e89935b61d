"""The quorum, read back from Kafka before a call: that exactly this effect was decided, by whom the law asks.

The rule not to break: nothing is taken from the folded state but where the records stand; their bytes are decoded and verified
anew for each call.
"""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.hashes import digest
from chimera.events.records import ArtifactProduced, EffectProposal, HumanApproved, HumanEdited, JudgeVerdict, effect_body
from chimera.events.state import Ref
from chimera.processors.jobs import Job
from chimera.processors.sending import Sender


async def checked(sender: Sender, job: Job) -> tuple[EffectProposal | None, str]:
    """Read the proposal and the deciding records back and check hash and signatures of what is about to leave.

    The effect and "", or None and why it may not be called. Raises `ChimeraError` where a record cannot be read.
    """
    d = (await sender.read_back(job.facts["effect"])).data
    if not isinstance(d, ArtifactProduced | HumanEdited) or d.effect is None:
        return None, "no proposal where the state says"
    effect = d.effect
    if effect.effect_hash != job.facts["hash"] or digest(effect_body(effect)) != effect.effect_hash:
        return None, "the proposal's bytes do not have the approved hash"
    content = False
    for ref in job.facts["decided_by"]:
        vote = await sender.read_back(Ref(*ref))
        named = vote.data.effect.effect_hash if isinstance(vote.data, HumanEdited) else getattr(vote.data, "effect_hash", None)
        if not isinstance(vote.data, JudgeVerdict | HumanApproved | HumanEdited) or named != effect.effect_hash:
            return None, f"record {ref} did not decide this effect"
        if not sender.signed_by_role(vote):
            return None, f"record {ref} lacks the signature of its role"
        content = content or (isinstance(vote.data, JudgeVerdict) and vote.data.judge == "content")
    return (effect, "") if content else (None, "no content vote among the deciding records")


def read_before_calls(record: Record) -> bool:
    """Will `checked` ask for this record's bytes: a proposal, or a vote on one?"""
    d = record.data
    if isinstance(d, ArtifactProduced | HumanEdited):
        return d.effect is not None
    return isinstance(d, JudgeVerdict | HumanApproved) and d.effect_hash is not None
