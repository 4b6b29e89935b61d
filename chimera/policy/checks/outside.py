"""What a text may not do by itself, least of all one made from outside words: name others, hand out contacts and codes.

The rule not to break: none of these fails a text. They send it to people, who see the exact words.
"""

from __future__ import annotations

import re

from chimera.policy import text as measure
from chimera.policy.checks.hostile import wallets
from chimera.policy.context import Context, Found

_HANDLE = re.compile(r"(?<![\w@/])[@＠]([A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,40}[A-Za-z0-9_])?)")
_EMAIL = re.compile(r"\b[\w.+-]{1,64}\s?(?:@|\(at\)|\[at\])\s?[\w-]+(?:\.[\w-]+)+\b", re.IGNORECASE)
_PHONE = re.compile(
    r"(?<![\w.])(?:\+|00)\d{1,3}[\s./()-]?(?:\d[\s./()-]{0,2}){6,11}\d(?!\w)|"
    r"(?<!\w)\(?\d{3}\)?[\s.-]\d{3}[\s.-]\d{4}(?!\w)|(?<![\w.,])0\d{2,4}[\s./-]?\d{3,4}[\s./-]?\d{3,6}(?![\w])"
)
_MESSENGER = re.compile(
    r"\b(?:t\.me|wa\.me|chat\.whatsapp\.com|discord\.gg|signal\.me|m\.me|line\.me)/\S*|"
    r"\b(?:message|text|write|contact|reach|add|dm|find|call) (?:me|us|him|her|them|our \w+) (?:on|via|at|in|over) "
    r"(?:whats ?app|telegram|signal|discord|wechat|viber|snapchat|instagram|insta|facebook|messenger|twitter|tiktok)\b|"
    r"\b(?:whats ?app|telegram|wechat)\b ?(?:group|channel|me\b|number|:|at\b|handle)|"
    r"\b(?:signal|discord) (?:group|server|channel|number)\b",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"\b(?:promo|discount|coupon|voucher|referral|invite|invitation|verification|access|log-?in|security|one-time|checkout|gift|pin|voucher)"
    r"[ -]?(?:codes?|pin|number)?\b\s*(?:is|are|=|:|–|-)?\s*[\"'“‘]?(?-i:[A-Z0-9][A-Z0-9-]{3,})\b|"
    r"\b(?:code|pin|otp|passcode)\b\s*(?:is|=|:|–)?\s*[\"'“‘]?(?-i:(?=[A-Z0-9-]*\d|[A-Z]{4})[A-Z0-9][A-Z0-9-]{3,})\b",
    re.IGNORECASE,
)
_MONEY_WORDS = r"(?:dollars?|euros?|pounds?|cents?|pence|yen|francs?|rupees?|usd|eur|gbp|eth|btc|sol|usdc|usdt|bucks|k\$)"
_AMOUNT = re.compile(
    rf"[$€£¥₹]\s?\d|\b\d[\d.,]*\s?(?:k|m|million|thousand)?\s?(?:[€£¥₹]|\$(?!\w)|{_MONEY_WORDS}\b)|"
    r"\b(?:a|one|two|three|four|five|six|seven|eight|nine|ten|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|"
    rf"thousand|million) "
    rf"(?:(?:hundred|thousand|million) )?{_MONEY_WORDS}\b",
    re.IGNORECASE,
)  # fmt: skip


def handles(text: str, ctx: Context) -> Found:
    """A handle of somebody else: neither the persona's own nor the person it answers."""
    own = {h.casefold().lstrip("@") for h in (*ctx.soul.handles.values(), ctx.addressee) if h}
    for name in _HANDLE.findall(_EMAIL.sub(" ", measure.body(text))):
        if name.casefold() not in own:
            yield f"@{name}", "names an account of somebody else: people decide"
            return


def contact(text: str, ctx: Context) -> Found:
    """A way to reach somebody outside the platform: an e-mail address, a telephone number, a messenger."""
    for pattern, what in ((_EMAIL, "an e-mail address"), (_PHONE, "a telephone number"), (_MESSENGER, "a messenger")):
        found = pattern.search(text)
        if found is not None:
            yield found.group()[:40], f"is {what}: people decide"


def codes(text: str, ctx: Context) -> Found:
    """A discount, invitation or log-in code, in a text that outside words went into."""
    found = _CODE.search(text) if ctx.taint != "owner" else None
    if found is not None:
        yield found.group()[:40], "hands out a code from outside: people decide"


def open_source(text: str, ctx: Context) -> Found:
    """Made from words of the open web or of strangers: by itself it may only be a plain reply, without link, other handle, address,
    amount or code."""
    if ctx.taint != "open":
        return
    if not ctx.is_reply:
        yield "not a reply", "was made from the open web: people decide about anything but a reply"
    if measure.links(text):
        yield "link", "is made from strangers' words and leads somewhere: people decide"
    if _AMOUNT.search(text):
        yield "amount", "is made from strangers' words and names an amount: people decide"
    if measure.hashtags(text):
        yield "hashtag", "is made from strangers' words and joins a topic of theirs: people decide"
    for what, check in (("handle", handles), ("address", contact), ("address", wallets), ("code", codes)):
        if next(check(text, ctx), None) is not None:
            yield what, f"is made from strangers' words and holds a {what}: people decide"
