"""Replay: the log read again beside what runs: to rebuild, look back, compare and rehearse.

What enters is the log (and a database to write read models into); what leaves is rows, answers and reports. The rule not to break:
nothing in this room can act: it imports neither the gate nor the roles, and nothing it makes is read by them.
"""
