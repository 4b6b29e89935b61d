"""Memory: what agents remember, found again by meaning, by word and by age.

What enters: the records of `chimera.notes`. What leaves: recollections, each with where it came from and what it is worth.
The rule not to break: memory is a projection. Losing it loses nothing, what it says is data and never an instruction, and a tenant
never recalls what another noted. It reaches no role and no gate.
"""
