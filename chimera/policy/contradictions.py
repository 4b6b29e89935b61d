"""What a bundle says that cannot all hold, though each field is well-formed by itself.

The rule not to break: only what could never work, or never have an effect, is named; what is merely strict is a choice.
"""

from __future__ import annotations

from collections.abc import Iterator

from chimera.policy.boardkit import Rules, Soul, inline
from chimera.policy.lexicons import UnknownLexicon, lexicon

MAX_INLINE = 4096
"""Bytes of JSON that the numbers of a policy may take (law: PolicyAdopted)."""


def in_rules(rules: Rules) -> list[str]:
    """Sentences that name field, trouble and way out; none for a policy that can be worked by."""
    return [*_lexicons(rules), *_thresholds(rules), *_new_agents(rules), *_times(rules), *_amounts(rules), *_size(rules)]


def in_soul(soul: Soul) -> list[str]:
    """The same for a persona: what it likes to say and what it never says."""
    said = {"openers": soul.voice.openers, "sign_offs": soul.voice.sign_offs, "hashtags": soul.voice.hashtags}
    return [
        f"voice.{field} has '{phrase}' and taboos has '{taboo}': no such text would pass, drop one"
        for field, phrases in said.items()
        for phrase in phrases
        for taboo in soul.taboos
        if f" {taboo.casefold()} " in f" {phrase.casefold()} "
    ]


def _lexicons(rules: Rules) -> Iterator[str]:
    for name in {**rules.sensitive, **rules.watched}:
        try:
            lexicon(name)
        except UnknownLexicon as error:
            yield str(error)


def _thresholds(rules: Rules) -> Iterator[str]:
    raised = {*rules.sensitive.values(), *rules.watched.values()}
    for kind, said in (("platform_thresholds", rules.platform_thresholds), ("tag_thresholds", rules.tag_thresholds)):
        for name, own in said.items():
            above, from_ = rules.borders(name if kind == "platform_thresholds" else "", [name] if kind == "tag_thresholds" else [])
            if from_ > above:
                yield (
                    f"{kind}.{name}: people_from ({from_}) is above approve_above ({above}), so no confidence would reach people:"
                    " lower it, or raise approve_above there"
                )
            for field, default in (("approve_above", rules.approve_above), ("people_from", rules.people_from)):
                value = getattr(own, field)
                if value is not None and value <= default:
                    yield (
                        f"{kind}.{name}.{field} ({value}) is not above {field} ({default}): the strictest counts, so it changes"
                        " nothing, raise it or drop it"
                    )
    for tag, own in rules.tag_thresholds.items():
        if tag not in raised:
            yield f"tag_thresholds.{tag}: no lexicon in sensitive or watched raises this tag: name the one whose words should"
        if tag in rules.sensitive.values() and own.approve_above is not None:
            yield (
                f"tag_thresholds.{tag}.approve_above: {tag} is sensitive, so people decide whatever the confidence is:"
                " drop it, or name the lexicon under watched instead"
            )


def _new_agents(rules: Rules) -> Iterator[str]:
    new = rules.probation
    if new is None:
        return
    if new.window < new.decisions:
        yield (
            f"probation.window ({new.window}) is below probation.decisions ({new.decisions}): there would never be enough of them,"
            " raise window"
        )
    if new.demote_above < new.overrides:
        yield (
            f"probation.demote_above ({new.demote_above}) is below probation.overrides ({new.overrides}): an agent would leave"
            " shadow and be in it again, raise demote_above"
        )
    if rules.shadow:
        yield "probation: shadow is true, so people see everything whatever is counted: drop one of them"


def _size(rules: Rules) -> Iterator[str]:
    size = len(inline(rules).model_dump_json(exclude_defaults=True).encode())
    if size > MAX_INLINE:
        yield (
            f"the numbers that every agent's state holds of this policy take {size} bytes, more than {MAX_INLINE}: name fewer"
            " platforms, tags, tiers or approvers"
        )


def _times(rules: Rules) -> Iterator[str]:
    if rules.lapse_s <= rules.undo_s:
        yield (
            f"lapse_s ({rules.lapse_s}) is not above undo_s ({rules.undo_s}): an approval would close before it may be used,"
            " raise lapse_s"
        )


def _amounts(rules: Rules) -> Iterator[str]:
    known = (len(set(rules.approvers.get("paid", []))), len(set(rules.approvers.get("financial", []))))
    most = 0
    for tier in sorted(rules.amount_tiers, key=lambda tier: tier.amount_usd):
        if tier.people <= most:
            yield f"amount_tiers: the one from {tier.amount_usd} USD on asks for no more people than a lower one: drop it"
        if tier.people > min(known):
            yield (
                f"amount_tiers: from {tier.amount_usd} USD on {tier.people} people must approve, but approvers.paid and"
                f" approvers.financial name {known[0]} and {known[1]}: name more, or ask for fewer"
            )
        most = max(most, tier.people)
    lowest = min((tier.amount_usd for tier in rules.amount_tiers), default=None)
    if lowest is not None and rules.auto_financial_usd >= lowest:
        yield (
            f"auto_financial_usd ({rules.auto_financial_usd}) reaches the tier from {lowest} USD on, where people are asked all"
            " the same: lower it"
        )
