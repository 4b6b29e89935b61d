"""The log as files that an auditor can check without us.

In: records of the log. Out: an export directory, and verdicts on one. Never imports `mcp` or `processors`.
"""
