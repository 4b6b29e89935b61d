"""What a bundle says that cannot all hold, though each field is well-formed by itself.

The rule not to break: only what could never work, or never have an effect, is named; what is merely strict is a choice.
"""

from __future__ import annotations

from collections.abc import Iterator

from chimera.policy.boardkit import Rules, Soul
from chimera.policy.lexicons import UnknownLexicon, lexicon


def in_rules(rules: Rules) -> list[str]:
    """Sentences that name field, trouble and way out; none for a policy that can be worked by."""
    return [*_lexicons(rules), *_times(rules), *_amounts(rules)]


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
    for name in rules.sensitive:
        try:
            lexicon(name)
        except UnknownLexicon as error:
            yield str(error)


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
