"""Replay: the log read again beside what runs: builds of the read models, repairs, comparisons, looks at the past.

In: records of the log, and the read models. Out: schemas of their own, rows of read models, reports. Never imports `mcp` or
`processors`: replaying anything calls no tool.
"""
