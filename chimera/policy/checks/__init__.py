"""The content judge's checks, one small pure function each: (text, Context) -> what was found.

`form`: what a text looks like; `said`: its words, numbers and likeness to others; `links`: where it leads; `hostile`: what no
honest text holds; `outside`: what a text made from outside words may not do by itself; `topics`: what it speaks of. The table that
gives each a name, a severity and its source is `chimera.policy.rules`.
"""
