"""Sentinels in every kind of credential of every profile: each reaches its own server's environment or header, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from chimera.mcp.gate import Gate
from chimera.mcp.profiles import load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.secrets import PROGRAMS
from chimera.mcp.targets import target_of
from tests.unit.test_opens import SENTINELS

PROFILES = load_profiles()
NOWHERE = "http://127.0.0.1:9/mcp"
LIVE = sorted(name for name, profile in PROFILES.by_name.items() if "live" in profile.spec.servers)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variable -> its secret, a different one in each."""
    values = {name: f"sentinel-{number}-7d2e" for number, name in enumerate(SENTINELS)}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.mark.parametrize("name", LIVE)
def test_a_server_is_given_its_own_secret_and_no_other(name: str, planted: dict[str, str], tmp_path: Path) -> None:
    server = PROFILES.by_name[name].spec.servers["live"]
    target = target_of(name, server, "ava", {server.address or "": NOWHERE} if server.stdio is None else {}, tmp_path)
    wanted = {planted[ref.removeprefix("env:").replace("{account}", "ava")] for ref in server.secrets.values()}
    given = {value for value in (*target.env.values(), *target.headers.values()) if value.startswith("sentinel-")}
    assert given == wanted
    assert "sentinel-" not in repr(target), "who prints it prints no secret"
    assert not any("sentinel-" in word for word in (target.command or "", *target.args, target.url or ""))


@pytest.mark.parametrize("kind", ["env", "file", "command"])
@pytest.mark.parametrize("works", [True, False])
def test_no_kind_of_credential_is_in_what_is_told_of_a_call(
    kind: str, works: bool, planted: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = planted["CHIMERA_X_AUTHORIZATION_ava"]
    (tmp_path / "secret").write_text(secret)
    (tmp_path / PROGRAMS).mkdir()
    program = tmp_path / PROGRAMS / "vault"
    program.write_text(f"#!/bin/sh\necho {secret}\necho {secret} >&2\nexit {0 if works else 1}\n")
    program.chmod(0o700)
    file = tmp_path / "secret" if works else tmp_path / "no-secret"
    reference = {
        "env": f"env:CHIMERA_X_AUTHORIZATION_{'ava' if works else 'nobody'}",
        "file": f"file:{file}",
        "command": "command:vault read",
    }[kind]
    records: list[ToolCallRecord] = []

    async def on_call(record: ToolCallRecord) -> None:
        records.append(record)

    async def go() -> Outcome:
        own = {"addresses": {"x_live_url": NOWHERE}, "on_call": on_call, "home": tmp_path}
        async with Gate(PROFILES, **own, credential=lambda agent, platform: reference) as gate:  # type: ignore[arg-type]
            call = PROFILES.render("social.publish", {"text": "a", "disclosure_level": "none"}, platform="x", mode="live")
            return await gate.send(call, agent="a", tenant="t", account="ava", idempotency_key="k")

    outcome = asyncio.run(asyncio.wait_for(go(), 60))
    assert outcome.result == "not_sent"
    assert outcome.reason == ("server_down" if works else "not_configured"), outcome
    told = str(outcome) + str([record.to_json() for record in records]) + caplog.text
    assert "sentinel-" not in told
    assert works or reference.partition(":")[0] in outcome.detail, "the reference is named, so that it can be mended"
