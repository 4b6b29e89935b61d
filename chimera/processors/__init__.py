"""The swarm: roles that owe and answer, and the runtime that lets them.

In: the agents' states, folded from the log. Out: records appended to the log. A role is a pure question, `due(agent, now) ->
jobs, wake_at`, and an async answer, `do(job, tools) -> Answer | None`. Nothing here remembers: what is outstanding follows from
the state.
"""
