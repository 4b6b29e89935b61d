"""Read models in Postgres, made by folding the log.

In: records of the log. Out: rows and checkpoints, nothing else. Never imports `mcp` or `processors`: replay cannot act.
"""
