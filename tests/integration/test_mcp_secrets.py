"""A secret reaches the server that needs it and nothing else."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from chimera.mcp.gate import Gate
from chimera.mcp.pin import as_text, live_pins
from chimera.mcp.pins import pins_path
from chimera.mcp.profiles import load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord

SENTINEL = "sentinel-6f1d2c"
SERVER = """
    import os
    from mcp.server import MCPServer
    srv = MCPServer("teller")
    @srv.tool()
    def tell(question: str) -> dict:
        token = os.environ.get("TELLER_TOKEN", "")
        if question == "leak":
            raise RuntimeError(token)
        return {"length": len(token), "account": token.rpartition("/")[2]}
    srv.run()
"""
PROFILE = """
    name: teller
    servers:
      sandbox:
        per_account: true
        stdio: {{command: "{{python}}", args: ["{server}"]}}
        secrets: {{TELLER_TOKEN: "file:{secrets}/{{account}}"}}
    capabilities:
      tell.me:
        tool: tell
        inputs: {{required: [question]}}
        arguments: {{question: "{{question}}"}}
        effect_class: none
        tool_class: read
        timeout_s: 10
        result: {{require: [length]}}
"""


def test_a_secret_is_in_the_childs_environment_and_in_no_record_outcome_log_or_pin(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "server.py").write_text(dedent(SERVER))
    for account in ("ava", "ben", ""):
        (tmp_path / "secrets").mkdir(exist_ok=True)
        if account:
            (tmp_path / "secrets" / account).write_text(f"{SENTINEL}/{account}\n")
    path = tmp_path / "teller.yaml"
    text = dedent(PROFILE).format(server=tmp_path / "server.py", secrets=tmp_path / "secrets")
    path.write_text(text.replace("{account}", "ava"))
    pins_path(path).write_text(as_text(asyncio.run(live_pins(path, {}, home=tmp_path))))
    path.write_text(text)
    records: list[ToolCallRecord] = []

    async def on_call(record: ToolCallRecord) -> None:
        records.append(record)

    async def go() -> list[Outcome]:
        async with Gate(load_profiles(tmp_path), {}, on_call=on_call, home=tmp_path) as gate:
            wishes = [("ava", "hi"), ("ben", "hi"), ("nobody", "hi"), ("ava", "leak")]
            return [
                await gate.call("tell.me", {"question": question}, agent="a", tenant="t", account=account)
                for account, question in wishes
            ]

    ava, ben, nobody, leak = asyncio.run(asyncio.wait_for(go(), 60))
    assert ava.data == {"length": len(SENTINEL) + 4, "account": "ava"}, ava
    assert ben.data["account"] == "ben"
    assert (nobody.result, nobody.reason) == ("not_sent", "not_configured")
    assert "nobody" in nobody.detail
    assert leak.result == "unknown"
    assert [record.reason for record in records] == ["", "", "not_configured", "unrecognised_answer"]
    seen = json.dumps([record.to_json() for record in records]) + str((ava, ben, nobody)) + caplog.text
    assert SENTINEL not in seen + pins_path(path).read_text()
    assert sys.executable not in seen


def test_children_for_single_accounts_are_few_and_the_least_recently_used_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chimera.mcp.gate.PER_ACCOUNT_CONNECTIONS", 2)
    (tmp_path / "server.py").write_text(dedent(SERVER))
    (tmp_path / "secrets").mkdir()
    for account in ("ava", "ben", "cem"):
        (tmp_path / "secrets" / account).write_text(f"{SENTINEL}/{account}")
    path = tmp_path / "teller.yaml"
    text = dedent(PROFILE).format(server=tmp_path / "server.py", secrets=tmp_path / "secrets")
    path.write_text(text.replace("{account}", "ava"))
    pins_path(path).write_text(as_text(asyncio.run(live_pins(path, {}, home=tmp_path))))
    path.write_text(text)

    async def go() -> list[str | None]:
        async def on_call(record: ToolCallRecord) -> None:
            return None

        async with Gate(load_profiles(tmp_path), {}, on_call=on_call, home=tmp_path) as gate:
            for account in ("ava", "ben", "ava", "cem"):
                outcome = await gate.call("tell.me", {"question": "hi"}, agent="a", tenant="t", account=account)
                assert outcome.data["account"] == account
            return [key[2] for key in gate.connections]

    assert asyncio.run(asyncio.wait_for(go(), 60)) == ["ava", "cem"]
