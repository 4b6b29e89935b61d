"""What is missing, what lags, what to do about it: facts about an installation judged into findings. Pure.

The rule not to break: a finding that is not fine names the thing, the place and the way out; what could not be looked at is said
to be unknown, never fine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from chimera import failpoints

Level = Literal["fine", "warning", "problem", "unknown"]

LAG_SLOW_S = 10.0
LAG_BAD_S = 120.0
COPY_SLOW_S, COPY_BAD_S = 10, 120
"""A copy takes milliseconds: one that waits longer does not count, or nobody carries it."""
FAILS_OFTEN = 3
"""So many failures in a row are no hiccup."""
DISK_SHORT = 0.10
DISK_FULL_BYTES = 1_000_000_000
SILENT_S = 10.0
TOLD_FOR_S = 600.0
"""So long one is told of a process that ended by itself, where it was started again or another took its place."""
EVENTS_SLOW_S = 60.0
"""Security events are sent within a second or two."""
ENDS_SOON_S = 14 * 86_400.0
"""A credential that ends within this time is worth a word: somebody has to fetch another."""
ROLES = ("brain", "gate", "projector")
COMMAND = "command"


class Finding(NamedTuple):
    """One thing that was looked at. `todo` is empty where nothing is to be done."""

    level: Level
    what: str
    where: str
    todo: str = ""


MEMORY_LAG = 1_000
"""Notes that may be on their way into memory without a word."""


def is_ill(findings: Iterable[Finding]) -> bool:
    """Is there a problem? Warnings and what is unknown because of one are no problems of their own."""
    return any(finding.level == "problem" for finding in findings)


def of_stack(stack: Mapping[str, Any], home: str, own_servers: bool, now: float) -> list[Finding]:
    """The stack file and its children; without a stack all is well only where the settings name other servers.

    A child that was started again is told of for `TOLD_FOR_S` from when it was ready (`since`, seconds since 1970, as `now`).
    """
    if not stack:
        if own_servers:
            return [Finding("fine", "no local stack: the settings name Kafka and PostgreSQL", home)]
        return [Finding("problem", "no stack runs", home, "start it: `chimera up --detach`")]
    found = []
    for child in stack.get("children", []):
        name, phase, log = child["name"], str(child["phase"]), str(child.get("log", ""))
        if phase == "alarm":
            found.append(
                Finding(
                    "problem",
                    f"{name} was given up: {child.get('last_exit') or 'it never became ready'}",
                    log,
                    f"`chimera logs {name}`, then `chimera down` and `chimera up`",
                )
            )
        elif int(child.get("failures", 0)) >= FAILS_OFTEN:
            what = f"{name} does not stay up: {child['failures']} failures in a row, the last by {child.get('last_exit') or '?'}"
            todo = f"`chimera logs {name}` says why; once that is mended it comes up by itself, within half a minute"
            found.append(Finding("problem", what, log, todo))
        elif phase != "ready":
            last = child.get("last_exit") or "first start"
            found.append(Finding("warning", f"{name} is {phase} ({last})", log, f"`chimera logs {name}` if it stays so"))
        elif child.get("restarts") and now - float(child.get("since", now)) < TOLD_FOR_S:
            times = "1 restart" if child["restarts"] == 1 else f"{child['restarts']} restarts"
            what = f"{name} runs, after {times} ({child.get('last_exit') or '?'})"
            found.append(Finding("warning", what, log, f"`chimera logs {name}`"))
    phase = str(stack.get("phase", "?"))
    if phase != "ready":
        found.append(Finding("warning", f"the stack is {phase}", home, "wait, or `chimera logs stack`"))
    count = len(stack.get("children", []))
    return found or [Finding("fine", f"the stack is up, {count} processes", home)]


def of_processes(statuses: Sequence[Mapping[str, Any]], alive: Mapping[int, bool], now: float, partitions: int) -> list[Finding]:
    """What each process last said of itself, and whether every partition is served by every role.

    `alive` says of each pid whether that process exists; `partitions` 0 = not known.
    """
    found: list[Finding] = []
    served: dict[str, set[int]] = {role: set() for role in ROLES}
    silent: set[str] = set()
    well = {str(s["role_set"]) for s in statuses if alive.get(int(s["pid"]), False) and now - float(s.get("at", 0)) <= SILENT_S}
    for status in statuses:
        role, pid, age = str(status["role_set"]), int(status["pid"]), now - float(status.get("at", 0))
        where = str(status.get("http") or f"pid {pid}")
        if not alive.get(pid, False):
            if role not in well or age < TOLD_FOR_S:  # what was replaced long ago is nothing to look at any more
                what = f"{role} (pid {pid}) ended without a word, last heard of {age:.0f} s ago"
                found.append(Finding("warning", what, f"run/{role}.{pid}.json", f"`chimera logs {role}`"))
            continue
        if age > SILENT_S:
            silent.add(role)
            todo = f"`chimera logs {role}`; if it stays so, end it (kill {pid}): its supervisor starts it anew"
            found.append(Finding("problem", f"{role} (pid {pid}) lives but has said nothing for {age:.0f} s", where, todo))
            continue
        served.setdefault(role, set()).update(int(p) for p in status.get("partitions", status.get("offsets", {})))
        if status.get("failpoints"):
            what = f"{role} (pid {pid}) is here to be broken: failpoints are on: {'; '.join(status['failpoints'])}"
            found.append(Finding("problem", what, where, f"unset {failpoints.VARIABLE} and start it again, unless this is a test"))
        ill = [str(reason) for reason in status.get("unwell", [])]
        found += [Finding("problem", f"{role} does not get on: {reason}", where, f"`chimera logs {role}`") for reason in ill]
        lag = status.get("lag", {})
        records, seconds = int(lag.get("records", 0)), float(lag.get("seconds", 0.0))
        if not ill:
            level: Level = "problem" if seconds > LAG_BAD_S else "warning" if seconds > LAG_SLOW_S else "fine"
            todo = "" if level == "fine" else f"run one more: `chimera run {role}`, or give the machine less to do (`chimera top`)"
            behind = f"{records} records, {seconds:.0f} s behind" if records else "caught up"
            found.append(Finding(level, f"{role} works, {behind}", where, todo))
    if COMMAND not in served:
        what = "no command service works: each command starts a fold of its own, which takes longer"
        found.append(Finding("warning", what, "run/", "`chimera run command`, or `chimera up`, which starts one"))
    for role in ROLES:
        missing = partitions - len(served[role]) if partitions else 0
        if not served[role] and role in silent:
            continue  # the one there is was told of
        if not served[role]:
            todo = f"a running stack starts one by itself within seconds: look again, then `chimera logs {role}`; else `chimera up`"
            found.append(Finding("problem", f"no {role} works", "run/", todo))
        elif missing:
            todo = f"wait a minute; then `chimera logs {role}`"
            found.append(Finding("problem", f"{missing} of {partitions} partitions have no {role}", "chimera.log", todo))
    return found


def of_counts(counts: Mapping[str, int], where: str) -> list[Finding]:
    """What waits for people, by the brain's own count."""
    found = []
    if counts.get("quarantined"):
        todo = "`chimera agent list`, look at the record, then `chimera agent release NAME --reason ...`"
        found.append(
            Finding("problem", f"{counts['quarantined']} agents are quarantined: their log holds unreadable bytes", where, todo)
        )
    if counts.get("unknown_effects"):
        todo = "`chimera review list --all`, look on the platform, then `chimera review resolve CARD --outcome ... --proof ...`"
        what = f"of {counts['unknown_effects']} effects nobody knows whether they happened"
        found.append(Finding("warning", what, where, todo))
    return found


def of_copies(counts: Mapping[str, int], where: str) -> list[Finding]:
    """Whether facts still cross between streams, by the courier's own figures."""
    if "copies_owed" not in counts:
        return []
    owed, held, oldest_s = counts["copies_owed"], counts.get("copies_held", 0), counts.get("copies_oldest_seconds", 0)
    if oldest_s <= COPY_SLOW_S:
        return [Finding("fine", f"{owed} copies are owed between tenants and agents", where)]
    level: Level = "problem" if oldest_s > COPY_BAD_S else "warning"
    todo = "`chimera logs command` says what did not count; `chimera campaign show` and `chimera policy status` say who waits"
    return [Finding(level, f"a copy has waited for {oldest_s} s; {owed} are owed between streams, {held} are held", where, todo)]


def of_security(oldest_s: float | None, lost: int, where: str) -> list[Finding]:
    """Whether security events leave the home. `oldest_s`: how long the oldest waits (None: none does), `lost`: kept nowhere."""
    found = []
    if lost:
        todo = "the log of the process that noted them says each; make room, or mend the directory's rights"
        found.append(Finding("problem", f"{lost} security events could be kept nowhere", where, todo))
    if oldest_s is not None and oldest_s > EVENTS_SLOW_S:
        todo = "they are sent once Kafka takes them: `chimera logs command` says why it does not; `chimera run command` sends them"
        found.append(Finding("warning", f"security events have waited for {oldest_s:.0f} s to be sent", where, todo))
    return found or [Finding("fine", "security events are sent", where)]


def of_memory(trouble: str | None, behind: int | None, where: str) -> list[Finding]:
    """What a projector says of memory (None: it says nothing), and how many notes are not in it (None: not known)."""
    if trouble is None:
        return []
    if trouble == "off":
        return [Finding("fine", "memory is off: agents recall nothing", where)]
    if trouble:
        todo = "everything else goes on; see the message, or set CHIMERA_MEMORY=off"
        return [Finding("warning", f"agents remember nothing new: {trouble}", where, todo)]
    if behind is None or behind < MEMORY_LAG:
        return [
            Finding("fine", "memory is kept up" if not behind else f"memory is kept up, {behind} notes are on their way", where)
        ]
    return [Finding("warning", f"{behind} notes are not in memory yet", where, "embedding takes 4 ms each; `chimera memory stats`")]


def of_recall(troubles: Iterable[str], where: str) -> list[Finding]:
    """What brains say that keeps their agents from recalling."""
    todo = "they work on without; see the message, or set CHIMERA_MEMORY=off"
    return [Finding("warning", f"agents recall nothing: {trouble}", where, todo) for trouble in sorted(troubles)]


def of_episodes(told: Iterable[str], asked: Iterable[str], where: str) -> list[Finding]:
    """What projectors say of the episodic cache ("off", or what keeps it from being kept up), and what brains say of asking it."""
    said = sorted(set(told))
    todo = "everything else goes on; see the message, or set CHIMERA_CACHE=off"
    found = [
        Finding("warning", f"episodes are not kept up: {trouble}", where, todo) for trouble in said if trouble not in ("", "off")
    ]
    found += [
        Finding("warning", f"answers are written without their threads: {trouble}", where, todo) for trouble in sorted(set(asked))
    ]
    if found or not said:
        return found
    if said == ["off"]:
        return [Finding("fine", "no episodes are kept: answers know nothing of their threads (docs/memory.md)", where)]
    return [Finding("fine", "episodes are kept up", where)]


def of_media(trouble: str, where: str) -> Finding:
    """Whether the media store answers (`trouble` empty), or why it does not."""
    if not trouble:
        return Finding("fine", "the media store answers", where)
    todo = "texts go on; pictures and films wait and are tried again. Is the address right, do its credentials hold?"
    return Finding("problem", trouble, where, todo)


def of_cards(old: int, waiting: int, oldest: str) -> list[Finding]:
    """Cards that wait, and those that have waited for more than half of what their policy gives them."""
    if old:
        todo = f"decide: `chimera review list` (the oldest is {oldest}); a card that expires is a no"
        return [Finding("warning", f"{old} of {waiting} cards have waited for more than half of their time", "review desk", todo)]
    return [Finding("fine", f"{waiting} cards wait for people", "review desk")]


def credential_ends(expires_ts: int, now: float) -> str:
    """`ended 2 days ago`, `ends in 3 days`; "" where that is far away or not known. `expires_ts` in ms, `now` in s."""
    left_s = expires_ts / 1000 - now
    if not expires_ts or left_s > ENDS_SOON_S:
        return ""
    size, unit = (86_400, "days") if abs(left_s) >= 86_400 else (3600, "hours")
    return f"ends in {left_s / size:.0f} {unit}" if left_s > 0 else f"ended {-left_s / size:.0f} {unit} ago"


def of_accounts(accounts: Sequence[Mapping[str, Any]], now: float) -> list[Finding]:
    """Credentials that end, and accounts that the platform says are somebody else's (rows of `account.list`)."""
    found = []
    for row in accounts:
        name = f"{row['platform']}/{row['account']}"
        where = f"agent {row['agent']}, tenant {row['tenant']}"
        ends = credential_ends(int(row["expires_ts"]), now)
        if ends:
            level: Level = "problem" if ends.startswith("ended") else "warning"
            link = f"`chimera account link {row['agent']} {name} --secret REFERENCE --expires DATE`"
            todo = f"{link}, then `chimera account verify {name}`"
            found.append(Finding(level, f"the credential of {name} {ends}", where, todo))
        if row["verdict"] == "somebody_else":
            todo = f"pause the agent; `chimera account link {row['agent']} {name} --secret REFERENCE` with the right one"
            found.append(Finding("problem", f"the credential of {name} belongs to {row['found']}, says the platform", where, todo))
        elif row["verdict"] == "not_told":
            todo = f"`chimera account verify {name}` again; is the reference right, does the platform answer?"
            found.append(Finding("warning", f"the platform did not say whose {name} is: {row['trouble']}", where, todo))
    return found or [Finding("fine", f"{len(accounts)} accounts, no credential ends soon", "chimera.log")]


def of_switches(switches: Iterable[tuple[str, str, str]], ignored: Mapping[str, int], where: str) -> list[Finding]:
    """Closed kill switches (scope, by whom, why), and records on their topic that do not count, by reason."""
    found = []
    for scope, by, reason in switches:
        todo = f"`chimera switch list` shows what waits behind it; `chimera switch open {scope} --reason '...'` lets it go on"
        found.append(Finding("warning", f"the kill switch {scope} is closed by {by}: {reason or 'no reason given'}", where, todo))
    strange = {reason: n for reason, n in ignored.items() if reason != "duplicate"}
    if strange:
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(strange.items()))
        todo = "somebody else writes to this topic: see who may (topics.yaml); no switch was moved by them"
        found.append(Finding("warning", f"{sum(strange.values())} records set no switch: {counts}", where, todo))
    return found or [Finding("fine", "no kill switch is closed", where)]


def of_disk(free: int, total: int, where: str) -> Finding:
    """Room for the log: Kafka and PostgreSQL stop when the disk is full."""
    text = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if free < DISK_FULL_BYTES:
        return Finding(
            "problem", f"the disk is all but full: {text}", where, "free space: what stopped for want of it goes on by itself then"
        )
    if free < DISK_SHORT * total:
        return Finding("warning", f"the disk fills up: {text}", where, "free space, or move CHIMERA_HOME to a larger disk")
    return Finding("fine", text, where)
