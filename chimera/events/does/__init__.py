"""What the records of the law's table do, by family. Called by the fold alone, after every guard has passed.

Guards take (agent, record) and return a void reason or None; they never change anything. Handlers take (agent, record, out),
change the agent, append `Change`s and return "" (applied) or the reason of a rejection.
"""
