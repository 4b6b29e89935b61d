"""Whether a log is the one that a saved state was made of.

The rule not to break: who goes on from a saved state asks here first; a log that lost its end, or another log under the same key,
would give a state that no log holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from chimera.eventlog.read import read_until


def of_another_log(
    bootstrap: str, topic: str, at: Mapping[int, int], times: Mapping[int, int], ends: Mapping[int, int]
) -> dict[int, str]:
    """Partition -> why the state saved there was not made of this log; empty where all were.

    `at`: offset of the first record that is not in the saved state; `times`: append time (ms) of the last one that is in; `ends`:
    where the log ends. Reads one record per partition. Raises what reading raises.
    """
    wrong = {
        p: f"its snapshot stands at offset {at[p]}, but the log ends at {ends[p]} (this log lost its end, or is another one)"
        for p in at
        if at[p] > ends[p]
    }
    last = {p: offset - 1 for p, offset in at.items() if p not in wrong and offset > 0}
    if last:
        for batch in read_until(bootstrap, topic, list(last), start=last, end={p: offset + 1 for p, offset in last.items()}):
            for raw in batch:
                if raw.append_ts != times[raw.partition]:
                    wrong[raw.partition] = (
                        f"the record at offset {raw.offset} was appended at {raw.append_ts}, its snapshot saw one of "
                        f"{times[raw.partition]} there (this is another log)"
                    )
    return wrong
