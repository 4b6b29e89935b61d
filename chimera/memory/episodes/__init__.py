"""Episodes: an agent's last events and notes, and the words of its threads, at hand without a question to the log.

What enters: what counted on `chimera.log` and the records of `chimera.notes`. What leaves: the newest of each, as long as they are
young enough. The rule not to break: it is a cache. Losing it loses nothing, whoever asks goes on without it, and one tenant's
episodes are never another's.
"""
