"""The door to the desk: HTTP in, verbs performed, answers out; and who is turned away.

The rule not to break: nothing is read of a request before it is known who sends it, and who came with a token gives commands by the
name of that token alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.commands import verbs
from chimera.commands.agents import UnknownAgent
from chimera.commands.client import HEALTH_PATH, VERBS_PATH
from chimera.commands.decision import NotEntitled, Refused
from chimera.commands.desk import Desk
from chimera.commands.keys import KeyTrouble
from chimera.commands.security import note
from chimera.commands.tokens import Tokens
from chimera.errors import ChimeraError
from chimera.events.security import Noted, noted

log = logging.getLogger(__name__)

LARGEST_BODY = 32 * 1024 * 1024
AT_ONCE = 64
"""Verbs under way at the same time; more wait their turn."""


def application(desk: Desk, tokens: Tokens | None, home: Path) -> Starlette:
    """The web application: one address for verbs, one for health. Who is turned away is noted in `home`."""
    room = asyncio.Semaphore(AT_ONCE)
    started = time.time()

    async def verbs_(request: Request) -> Response:
        who = _who(request, tokens)
        if who is None:
            note(home, _turned_away(request))
            return _json(401, {"kind": "unauthorized", "error": "unauthorized"})
        body = await _body(request)
        if body is None:
            return _json(413, {"kind": "failed", "error": f"a verb holds at most {LARGEST_BODY} bytes: send it in parts"})
        async with room:
            return await asyncio.to_thread(_perform, desk, body, who, home)

    async def health(request: Request) -> Response:
        if _who(request, tokens) is None:
            note(home, _turned_away(request))
            return _json(401, {"kind": "unauthorized", "error": "unauthorized"})
        offsets = desk.service.offsets
        body = {
            "ok": True,
            "pid": os.getpid(),
            "topic": desk.service.topic,
            "started": started,
            "folded": sum(offsets.values()),
            "offsets": offsets,
            "from_snapshots": not desk.service.whole,
            "signing": desk.service.keys.command.id,
        }
        return _json(200, body)

    routes = [Route(VERBS_PATH, verbs_, methods=["POST"]), Route(HEALTH_PATH, health, methods=["GET"])]
    return Starlette(routes=routes)


class _Who(NamedTuple):
    """Who is at the door: `name` where a token says so (then the only actor), and a word for the log."""

    name: str | None
    word: str


def _who(request: Request, tokens: Tokens | None) -> _Who | None:
    uid = request.scope.get("state", {}).get("peer_uid")
    if uid is not None:
        return _Who(None, f"uid {uid}")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        name = tokens.name_of(token.strip()) if tokens is not None and scheme.lower() == "bearer" else None
    except KeyTrouble as error:
        log.error("%s; nobody comes in over TCP until then", error)
        return None
    return None if name is None else _Who(name, f"token of {name}")


def _turned_away(request: Request) -> Noted:
    origin, shown = request.client.host if request.client else "", "authorization" in request.headers
    reason = "no_such_token" if shown else "no_token"
    return noted("token_refused", door="command_service", outcome="refused", origin=origin, reason=reason)


async def _body(request: Request) -> bytes | None:
    """The request's body; None where it is larger than any verb."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _perform(desk: Desk, body: bytes, who: _Who, home: Path) -> Response:
    began = time.monotonic()
    name = "?"
    try:
        verb = verbs.read_verb(body)
        name = verb.verb
        if isinstance(verb, verbs.Wish):
            if who.name is not None and verb.actor != who.name:
                note(home, _not_as(who.name, verb))
                raise NotEntitled(f"the token of '{who.name}' gives commands as '{who.name}' only, not as '{verb.actor}'")
            log.info("%s %s as %s by %s", name, verb.id, verb.actor, who.word)
        reply = desk.perform(verb)
    except verbs.BadVerb as error:
        return _json(400, {"kind": "failed", "error": str(error)})
    except Refused as refusal:
        return _json(409, {"kind": "refused", "error": str(refusal)})
    except UnknownAgent as error:
        return _json(404, {"kind": "unknown", "error": str(error)})
    except ChimeraError as error:
        log.warning("%s failed after %.1f s: %s", name, time.monotonic() - began, error)
        return _json(503, {"kind": "failed", "error": str(error)})
    except Exception:
        log.exception("%s failed", name)
        return _json(500, {"kind": "failed", "error": f"the command service failed at {name}: its log says why"})
    return _json(200, reply)


def _not_as(name: str, verb: verbs.Verb) -> Noted:
    """Somebody with a token speaks for somebody else."""
    return noted("command_refused", door="command_service", who=name, outcome="refused", action=verb.verb, reason="not_their_name")


def _json(status: int, body: Mapping[str, Any]) -> Response:
    content = orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(content, status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"})
