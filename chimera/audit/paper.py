"""A story as a page that prints well: one HTML file without scripts, pictures or links to anywhere.

The rule not to break: every text of a record is escaped, and the page holds the proofs themselves.
"""

from __future__ import annotations

from html import escape

from chimera.audit.story import Step, Story

STYLE = """
body { font: 11pt/1.45 Georgia, serif; color: #111; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 0 .3rem } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; break-after: avoid }
table { border-collapse: collapse; width: 100% } tr, pre { break-inside: avoid }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #bbb }
th { white-space: nowrap; font-weight: 600 } td, blockquote { overflow-wrap: anywhere }
blockquote { border-left: 3px solid #888; margin: .6rem 0; padding: .1rem .8rem; white-space: pre-wrap }
pre { font: 7.5pt/1.35 monospace; white-space: pre-wrap; overflow-wrap: anywhere }
pre { border: 1px solid #bbb; padding: .5rem; margin: .3rem 0 1rem }
.at { white-space: nowrap; font-variant-numeric: tabular-nums } .no { color: #8a1c1c }
@page { size: A4; margin: 18mm 16mm }
@media print { body { margin: 0; max-width: none } .proofs { break-before: page } }
"""
CLOCK = (
    "All times are append times: the clock of the Kafka broker at the moment it appended the record (LogAppendTime), in UTC. "
    "They are signed with the record. Clocks of processes, people's devices and platforms play no part in any ruling."
)

PROOFS = (
    "One for each record: its leaf, the path to the root, and the checkpoint that the notary signed. Saved as a file, "
    "<code>chimera audit check-proof FILE --key KEY</code> or any tool for C2SP tlog-proof checks it offline."
)


def page_of(story: Story, whence: str, keys: list[str]) -> str:
    """The page. `whence`: where the records come from; `keys`: public keys of the notary that signed (base64)."""
    outcome = f"It went out as {story.platform_id or 'an effect without an id'}." if story.executed else "It did not go out."
    facts = {
        "agent": f"{story.address.agent} ({story.stream})",
        "card": f"{story.address.campaign}.{story.address.ordinal}.{story.address.attempt}",
        "account": story.account,
        "effect hash": story.effect_hash,
        "platform id": story.platform_id,
        "records": f"{len(story.steps)}, from {whence}",
        "signed by the notary's key": ", ".join(keys),
    }
    rows = [_row(number, step) for number, step in enumerate(story.steps, 1)]
    proofs = [
        f"<h2>{number}. {escape(step.page.record.type)} {_place(step)}</h2><pre>{escape(step.proof.text().decode())}</pre>"
        for number, step in enumerate(story.steps, 1)
    ]
    head = "".join(f"<th>{name}</th>" for name in ("#", "when (UTC)", "what the record says", "place"))
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>Why did this go out? {escape(story.platform_id or story.effect_hash)}</title><style>{STYLE}</style></head><body>",
        f"<h1>Why did this go out?</h1><p>{escape(outcome)}</p>",
        _table(facts),
        f"<blockquote>{escape(story.text)}</blockquote>" if story.text else "",
        f"<h2>From the brief to the platform</h2><table><tr>{head}</tr>",
        *rows,
        f"</table><h2>The clock</h2><p>{CLOCK}</p>",
        f'<section class="proofs"><h2>The proofs</h2><p>{PROOFS}</p>',
        *proofs,
        "</section></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _table(facts: dict[str, str]) -> str:
    return "<table>" + "".join(f"<tr><th>{escape(k)}</th><td>{escape(v) or '–'}</td></tr>" for k, v in facts.items()) + "</table>"


def _row(number: int, step: Step) -> str:
    counted = "" if step.page.ruling.outcome == "applied" else ' class="no"'
    return f'<tr{counted}><td>{number}</td><td class="at">{step.at}</td><td>{escape(step.says)}</td><td>{_place(step)}</td></tr>'


def _place(step: Step) -> str:
    return f"{step.page.raw.partition}@{step.page.raw.offset}"
