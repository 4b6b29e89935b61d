"""What the doctor concludes from what it saw: every finding that is not fine says what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from chimera.cli.top import missing, with_rates
from chimera.observe import findings
from chimera.observe.doctor import statuses
from chimera.observe.findings import Finding, is_ill

NOW = 10_000.0


def child(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "phase": "ready", "restarts": 0, "last_exit": None, "log": f"/l/{name}.log"} | changes


def status(role: str, **changes: Any) -> dict[str, Any]:
    return {
        "role_set": role,
        "pid": 7,
        "at": 100.0,
        "http": "http://h",
        "partitions": [0, 1],
        "lag": {"records": 0, "seconds": 0.0},
    } | changes


def processes(*told: dict[str, Any], alive: bool = True) -> list[Finding]:
    return findings.of_processes(list(told), {7: alive}, 101.0, 2)


ALL = [status(role) for role in (*findings.ROLES, findings.COMMAND)]


def test_a_fleet_at_work_is_fine() -> None:
    found = [*findings.of_stack({"phase": "ready", "children": [child("kafka")]}, "/h", False, NOW), *processes(*ALL)]
    assert {finding.level for finding in found} == {"fine"}
    assert not is_ill(found)


def test_everything_that_is_wrong_says_what_to_do() -> None:
    found = [
        *findings.of_stack({}, "/h", False, NOW),
        *findings.of_stack(
            {"phase": "ready", "children": [child("brain", phase="alarm", last_exit="exit code 1")]}, "/h", False, NOW
        ),
        *processes(status("brain", at=1.0), status("gate", unwell=["partition 3 stands at 4"])),
        *processes(*ALL, alive=False),
        *processes(status("gate", failpoints=["job.started=kill:0.1"])),
        *findings.of_counts({"quarantined": 2, "unknown_effects": 1}, "the log"),
        *findings.of_cards(1, 3, "ava/1.1.1"),
        *findings.of_switches([("fleet", "kim", "")], {"forged": 2}, "chimera.switches"),
        findings.of_disk(10, 10_000_000_000, "/"),
    ]
    assert all(finding.todo and finding.where for finding in found if finding.level != "fine")
    assert is_ill(found)


def test_no_local_stack_is_fine_where_the_settings_name_servers() -> None:
    assert not is_ill(findings.of_stack({}, "/h", True, NOW))


def test_a_process_that_came_back_is_to_be_looked_at_and_no_problem() -> None:
    found = findings.of_stack({"phase": "ready", "children": [child("brain", restarts=2, last_exit="signal 9")]}, "/h", False, NOW)
    assert [finding.level for finding in found] == ["warning"]


def test_a_process_that_has_stayed_up_since_long_is_told_of_no_more() -> None:
    def level(up_s: float) -> str:
        stack = {"phase": "ready", "children": [child("brain", restarts=1, last_exit="signal 9", since=NOW - up_s)]}
        (found,) = findings.of_stack(stack, "/h", False, NOW)
        return found.level

    assert (level(60.0), level(findings.TOLD_FOR_S + 1)) == ("warning", "fine")


def test_a_process_that_falls_again_and_again_is_a_problem_that_says_that_it_is_tried_on() -> None:
    falling = child("kafka", phase="backoff", failures=7, last_exit="exit code 1")
    (found,) = findings.of_stack({"phase": "ready", "children": [falling]}, "/h", False, NOW)
    assert found.level == "problem"
    assert "7 failures in a row" in found.what
    assert "by itself" in found.todo


def test_a_process_that_lives_and_says_nothing_is_a_problem() -> None:
    (stuck, *_) = processes(status("brain", at=1.0), *ALL[1:])
    assert stuck.level == "problem"
    assert "said nothing for 100 s" in stuck.what


def test_a_silent_process_is_told_of_once_with_what_to_do_about_it() -> None:
    told = [finding.what for finding in processes(status("brain", at=1.0), *ALL[1:]) if "brain" in finding.what]
    assert told == ["brain (pid 7) lives but has said nothing for 100 s"]


def test_a_process_that_was_replaced_is_told_of_for_a_while_and_one_that_was_not_for_good() -> None:
    def told(dead_since_s: float, *others: dict[str, Any]) -> list[str]:
        dead = status("gate", pid=8, at=100_000.0 - dead_since_s)
        now = [{**each, "at": 100_000.0} for each in others]
        found = findings.of_processes([dead, *now], {7: True, 8: False}, 100_001.0, 2)
        return [finding.what for finding in found if "ended without a word" in finding.what]

    assert told(60, *ALL) == ["gate (pid 8) ended without a word, last heard of 61 s ago"]
    assert told(findings.TOLD_FOR_S, *ALL) == []
    assert len(told(findings.TOLD_FOR_S, *(each for each in ALL if each["role_set"] != "gate"))) == 1


def test_a_partition_that_nobody_serves_is_named_with_the_role_that_lacks() -> None:
    found = processes(status("brain", partitions=[0]), *ALL[1:])
    assert any("1 of 2 partitions have no brain" in finding.what for finding in found)


def test_two_processes_may_share_the_partitions() -> None:
    assert not is_ill(processes(status("brain", partitions=[0]), status("brain", partitions=[1]), *ALL[1:]))


def test_commands_work_without_their_service_only_slower() -> None:
    found = processes(*ALL[:-1])
    assert [finding.level for finding in found if "command service" in finding.what] == ["warning"]
    assert not is_ill(found)


def test_a_lag_grows_from_fine_over_a_warning_to_a_problem() -> None:
    def level(seconds: float) -> str:
        return processes(status("brain", lag={"records": 9, "seconds": seconds}), *ALL[1:])[0].level

    assert [level(1), level(findings.LAG_SLOW_S + 1), level(findings.LAG_BAD_S + 1)] == ["fine", "warning", "problem"]


def test_a_disk_is_judged_by_what_is_left() -> None:
    gb = 1_000_000_000
    assert [findings.of_disk(free * gb, 100 * gb, "/").level for free in (50, 5)] == ["fine", "warning"]
    assert findings.of_disk(gb // 2, 100 * gb, "/").level == "problem"


def test_a_role_that_nobody_does_has_a_row_of_its_own_on_the_screen() -> None:
    def seen(*roles: str) -> list[str]:
        return missing({"phase": "ready", "processes": [{"role": role} for role in roles]})

    assert seen("brain", "projector", "command") == ["gate"]
    assert seen("brain", "gate", "projector", "command") == []
    assert missing({"phase": "no stack", "processes": []}) == []


def test_rates_are_differences_of_two_looks_and_a_new_process_begins_at_nothing() -> None:
    def seen(at: float, applied: int, pid: int = 7) -> dict[str, Any]:
        one = {"pid": pid, "role": "brain", "rulings": {"applied": applied}, "records": applied}
        return {"at": at, "processes": [one]}

    assert with_rates(seen(12.0, 30), seen(10.0, 10))["rulings_per_s"] == {"applied": 10.0}
    assert with_rates(seen(12.0, 30, pid=8), seen(10.0, 10))["rulings_per_s"] == {"applied": 0.0}


DAY_S = 86_400.0
ACCOUNT = {
    "platform": "x",
    "account": "ava",
    "agent": "ava",
    "tenant": "acme",
    "expires_ts": 0,
    "verdict": "confirmed",
    "trouble": "",
}


def test_a_credential_is_told_of_two_weeks_before_it_ends_and_is_a_problem_from_then_on() -> None:
    now = 1_000 * DAY_S
    for days, word, level in ((14.01, "", "fine"), (13.99, "ends in 14 days", "warning"), (0.5, "ends in 12 hours", "warning"),
                              (-0.25, "ended 6 hours ago", "problem"), (-3, "ended 3 days ago", "problem")):  # fmt: skip
        expires_ts = int((now + days * DAY_S) * 1000)
        assert findings.credential_ends(expires_ts, now) == word
        (found,) = findings.of_accounts([ACCOUNT | {"expires_ts": expires_ts}], now)
        assert found.level == level
    assert findings.credential_ends(0, now) == ""


def test_a_credential_that_the_platform_says_is_somebody_elses_is_a_problem_and_one_that_it_did_not_say_a_warning() -> None:
    other = ACCOUNT | {"verdict": "somebody_else", "found": "ben"}
    silent = ACCOUNT | {"verdict": "not_told", "trouble": "server_down"}
    levels = [(f.level, f.what) for f in findings.of_accounts([other, silent, ACCOUNT], 0.0)]
    assert [level for level, _ in levels] == ["problem", "warning"]
    assert "belongs to ben" in levels[0][1]
    assert "server_down" in levels[1][1]
    assert findings.of_accounts([], 0.0)[0].level == "fine"


def test_copies_that_wait_are_told_of_after_ten_seconds_and_are_a_problem_after_two_minutes() -> None:
    def of(oldest_s: int) -> list[str]:
        counts = {"copies_owed": 7, "copies_held": 1, "copies_oldest_seconds": oldest_s}
        return [found.level for found in findings.of_copies(counts, "here")]

    assert [of(s) for s in (0, 10, 11, 120, 121)] == [["fine"], ["fine"], ["warning"], ["warning"], ["problem"]]
    assert findings.of_copies({}, "a service that tells nothing") == []


def test_security_events_that_are_not_sent_are_told_of_and_those_that_were_lost_are_a_problem() -> None:
    def of(oldest_s: float | None, lost: int = 0) -> list[str]:
        return [found.level for found in findings.of_security(oldest_s, lost, "here")]

    assert [of(None), of(60), of(61), of(None, 1), of(61, 1)] == [
        ["fine"],
        ["fine"],
        ["warning"],
        ["problem"],
        ["problem", "warning"],
    ]


def test_files_that_no_process_of_ours_wrote_are_no_processes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    told = {"role_set": "brain", "pid": 7, "at": 1.0}
    for name, text in (
        ("brain.7", json.dumps(told)),
        ("cut", '{"role_set": "bra'),
        ("bytes", "\x00"),
        ("list", "[1]"),
        ("strange", '{"role_set": "brain", "pid": "x"}'),
    ):
        (tmp_path / "run" / f"{name}.json").write_text(text)
    assert statuses(tmp_path) == [told]


# --- the page ----------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "operators.md").read_text()


def explained() -> list[re.Pattern[str]]:
    """What the operators' page says a finding may read like; `...` stands for what differs."""
    table = PAGE.split("## What the doctor says, and what you do")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [
        re.compile(".+".join(map(re.escape, text.split("..."))) + ".*") for cell in cells for text in re.findall("`([^`]+)`", cell)
    ]


def everything() -> list[Finding]:
    """Each kind of finding that is not fine, once."""
    stack = {"phase": "starting", "children": [
        child("brain", phase="alarm", last_exit="exit code 1"),
        child("gate", phase="backoff", failures=3, last_exit="signal 9"),
        child("x", phase="starting"),
        child("kafka", restarts=1, last_exit="signal 9"),
        child("postgres", restarts=2, last_exit="signal 9"),
    ]}  # fmt: skip
    told = [
        status("brain", failpoints=["job.started=kill"], unwell=["its loop is stuck"]),
        status("gate", pid=8, at=50.0),
        status("projector", pid=9, lag={"records": 5, "seconds": 60.0}, partitions=[0]),
        status("brain", pid=10),
    ]
    account = {"platform": "x", "account": "ava_x", "agent": "ava", "tenant": "acme", "found": "eve", "trouble": "no answer"}
    return [
        *findings.of_stack({}, "/h", False, NOW),
        *findings.of_stack(stack, "/h", False, NOW),
        *findings.of_processes(told, {7: True, 8: True, 9: True, 10: False}, 101.0, 2),
        *findings.of_processes([], {}, 101.0, 2),
        *findings.of_counts({"quarantined": 1, "unknown_effects": 2}, "the log"),
        *findings.of_copies({"copies_owed": 1, "copies_oldest_seconds": 60}, "h"),
        *findings.of_security(61.0, 2, "h"),
        *findings.of_cards(1, 2, "ava/1.1.1"),
        *findings.of_accounts([account | {"expires_ts": 1, "verdict": "somebody_else"}], 100.0),
        *findings.of_accounts([account | {"expires_ts": 200_000, "verdict": "not_told"}], 100.0),
        *findings.of_switches([("fleet", "kim", "a test")], {"forged": 1}, "t"),
        findings.of_disk(1, 100, "/"),
        findings.of_disk(5_000_000_000, 100_000_000_000, "/"),
    ]


def test_the_operators_page_explains_every_finding_that_is_not_fine() -> None:
    found = [finding for finding in everything() if finding.level != "fine"]
    assert len({finding.what for finding in found}) >= 22
    missing = {finding.what for finding in found if not any(pattern.fullmatch(finding.what) for pattern in explained())}
    assert missing == set()


def test_what_the_doctor_itself_finds_is_explained_too() -> None:
    source = (Path(findings.__file__).parent / "doctor.py").read_text()
    written = re.findall(r'Finding\(\s*"problem",\s*f?"([^"]+)"', source) + re.findall(r'what = f?"([^"]+)"', source)
    texts = [re.sub(r"\{[^}]*\}", "7", text) for text in written]
    assert len(texts) >= 6
    assert {text for text in texts if not any(pattern.fullmatch(text) for pattern in explained())} == set()


def test_memory_that_cannot_be_written_or_asked_is_a_warning_with_its_way_out_and_one_that_is_off_is_none() -> None:
    assert findings.of_memory(None, None, "notes") == []
    assert [f.level for f in findings.of_memory("off", 5, "notes")] == ["fine"]
    assert [f.level for f in findings.of_memory("", 5, "notes")] == ["fine"]
    [behind] = findings.of_memory("", 50_000, "notes")
    assert (behind.level, behind.what) == ("warning", "50000 notes are not in memory yet")
    [away] = findings.of_memory("Weaviate at http://w does not answer: no", 0, "notes")
    [asked] = findings.of_recall(["Weaviate at http://w does not answer: no"], "notes")
    for finding in (away, asked):
        assert finding.level == "warning"
        assert "Weaviate at http://w does not answer" in finding.what
        assert "CHIMERA_MEMORY=off" in finding.todo
    assert findings.of_recall([], "notes") == []
