"""The law's second reading: a slow, obvious fold made of plain dicts, written from the law's page alone.

It exists to disagree. Nothing is indexed and nothing is cached: staleness scans every write ever made, held time is recounted
from the gates' whole history, a void is undone by throwing a copy of the state away. The rule not to break: this package never
imports the real fold; `CHOICES.md` says where the page leaves a choice and what was chosen here.
"""

from tests.slowfold.fold import slow_fold, slow_step
from tests.slowfold.summary import summary_of_agent, summary_of_slow

__all__ = ["slow_fold", "slow_step", "summary_of_agent", "summary_of_slow"]
