"""Seeing what processes do: logs, metrics, health, traces, and the findings of `chimera doctor`.

Enters: what processes tell of themselves (counters, positions, status files) and what servers answer. Leaves: log lines, a loopback
HTTP page per process, spans, findings. Nothing in this room changes what a process does; without it they would do the same unseen.
"""
