"""Policy: what a text may be and who decides about it, as data and pure functions.

In: bundles, briefs, texts and their sources. Out: typed rules, findings, a verdict's decision. Nothing here reads a clock, a
server or the network; the only room that it may import from is `chimera.events` (and the shared error root).
"""
