"""What a judge was told of texts, so that a text which comes again, first a draft and then a proposal, is not asked about twice.

The rule not to break: a rating answers exactly the request that it was given for: text, brief, persona, criteria and sources.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from chimera.policy.writing import RateResponse

REMEMBERED = 2048
"""Ratings of one process, about 2 KB each; the one used longest ago is forgotten first."""


class Ratings:
    """The memory of one judging process: best effort and bounded. `asked` is all that a request is made of."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._known: OrderedDict[Hashable, RateResponse] = OrderedDict()

    def of(self, asked: Hashable) -> RateResponse | None:
        """What just this request was answered before; None where it is to be asked."""
        if asked in self._known:
            self._known.move_to_end(asked)
        return self._known.get(asked)

    def keep(self, asked: Hashable, rating: RateResponse) -> None:
        """Remember what was answered."""
        self._known[asked] = rating
        while len(self._known) > self._most:
            self._known.popitem(last=False)
