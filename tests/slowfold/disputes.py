"""Where the two readings of the law differ: one switch per dispute, True = the slow fold's reading of the quoted sentence.

While a switch is False the slow fold follows the real one, so that both can be compared on random histories, and
`test_law_disputes.py` holds the dispute as an expected failure. Who settles one flips its switch (or deletes it) with the fix.
"""

from __future__ import annotations

TIERS_ASK_PEOPLE = False
"""AmountTier: "At or above `amount_usd`, `people` distinct people must approve." The real fold only raises how many."""
FINANCE_NEEDS_PEOPLE_AT_ANY_COST = False
""""financial also people, unless policy names a small automatic limit": a limit of 0 names none, a cost of 0 is no licence."""
CFO_TAGS_COUNT = False
""""no sensitive tag from anyone": the CFO judge is somebody."""
REJECTED_NEVER_COMMITS = False
"""Rejected "uses its number up and changes only that task or effect": a bad vote behind an editor's must not raise the version."""
FREE_WORK_NEEDS_NO_ALLOWANCE = False
""""max_cost reserved": where nothing is to be reserved, an overdrawn allowance stops nothing."""
STRICT_AS_POLICY_IS_WHEN_OPENED = False
""""`*` is what policy may demand for a kind of task": also of a task that was planned before the edition."""
A_REPLACED_ATTEMPT_IS_NOT_ONE_MORE = False
""""< 500 open": an attempt that replaces a stale one does not raise the count."""
ZERO_CLAIMS_MEANS_NONE = False
"""Frequency: "At most `claims` effects on one account within `window_ms`": at most 0 is none, not any number."""
REFUSED_BY_PROOF_IN_FLIGHT = False
""""refused: current token or proof": not only while unknown."""
A_FAILED_DRAFT_NEEDS_NO_CONFIDENCE = False
""""a failed rule → failure": a verdict `fail` without a number is an answer (of an effect the real fold says so, of a draft not)."""
