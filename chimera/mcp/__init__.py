"""The MCP gate: the only room that reaches outside tools and platforms.

In come capabilities with inputs (reads) or rendered calls (effects); out go outcomes and records of calls. Nothing here
decides whether an effect may happen: that is the log's business, and whoever calls `Gate.send` has read it there.
"""
