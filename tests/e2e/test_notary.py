"""The notary beside a running swarm: what happened is signed within seconds, and one record of it is proven with a key alone."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.house import House


def test_what_a_swarm_did_is_signed_and_one_verdict_is_proven_offline(house: House, tmp_path: Path) -> None:
    names = house.enrol("nota", 1, approve_above=1.0)
    house.start(house.brief("Sworn", 1), names)
    key = house.done("audit", "keygen")["signs"]
    for _ in range(2):  # the second takes up where the first one was killed
        with house.another("notary") as process:
            house.until_completed(names)  # a person approves what waits
            house.until(lambda: house.run("audit", "status").code == 0 and unsigned(house) == 0, "everything is signed", 90)
            process.kill()
    assert house.done("audit", "compare")["same"]

    verdict = house.records("JudgeVerdict", names)[0].record
    file = tmp_path / "verdict.tlog-proof"
    made = house.done("audit", "prove", f"{verdict.partition}@{verdict.offset}", "--out", file)
    assert (made["leaf"]["id"], made["leaf"]["type"], made["leaf"]["key"]) == (verdict.id, "JudgeVerdict", verdict.key)
    by_id = house.done("audit", "prove", verdict.id, "--out", tmp_path / "by-id.tlog-proof")
    assert (by_id["partition"], by_id["offset"]) == (verdict.partition, verdict.offset)
    assert house.done("audit", "check-proof", file, "--key", key)["holds"]
    house.until_projected()
    place = f"verdicts:agent={names[0]},artifact_hash={verdict.data.artifact_hash}"  # type: ignore[union-attr]
    by_row = house.done("audit", "prove", "--row", place, "--out", tmp_path / "by-row.tlog-proof")
    assert (by_row["partition"], by_row["offset"]) == (verdict.partition, verdict.offset)
    assert "name one by columns" in house.run("audit", "prove", "--row", "verdicts:JudgeVerdict").out

    changed = file.read_text().replace("index ", "index 1", 1)
    file.write_text(changed)
    refused = house.run("audit", "check-proof", file, "--key", key)
    assert refused.code == 1
    assert "error" in refused.out


def unsigned(house: House) -> int:
    return sum(row["unsigned"] for row in house.done("audit", "status")["topics"] if row["topic"] == "chimera.log")
