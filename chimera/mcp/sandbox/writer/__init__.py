"""The text writer: an MCP server with one tool, `complete`, that finds angles, drafts texts and rates them.

In: a purpose and a request (`chimera.policy.writing`). Out: an answer of the same module. Offline it works from the given brief,
persona and articles alone; with an OpenAI-compatible endpoint in the settings that model answers, checked by the same models.
The rule not to break: a confidence is computed from the text and its sources, never a constant.
"""
