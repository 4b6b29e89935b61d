"""Sending what webhooks are told: signed (Standard Webhooks), to addresses that may be dialled, again when it was in vain.

The rule not to break: whoever is dialled was judged: every address of the name, and then one of those, with no second look-up and
no redirection. Nothing of an answer is kept but its status.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import http.client
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from psycopg import AsyncConnection, OperationalError
from psycopg_pool import PoolTimeout

from chimera.control import queue
from chimera.control.webhooks import SECRET, Message, Webhook, Webhooks, message
from chimera.mcp.egress import EgressDenied, public_addresses

log = logging.getLogger(__name__)

Reading = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]
LOOK_S = 2.0
TIMEOUT_S = 10.0
GONE = 410
"""Who answers that wants to hear no more."""


class Ended(NamedTuple):
    """How one try ended: whether it was delivered, in words, and whether another would be in vain."""

    delivered: bool
    said: str
    final: bool = False


class Telling:
    """Looks at the queue and empties the outbox, while the application runs."""

    def __init__(self, hooks: Webhooks, reading: Reading) -> None:
        self._hooks, self._reading = hooks, reading
        self._task: asyncio.Task[None] | None = None
        self._seen = ""

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; what waits stays in the outbox."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> None:
        """Put into the outbox what is new, and send what is due."""
        hooks = [hook for hook, _ in await asyncio.to_thread(self._hooks.listed)]
        if not hooks:
            return
        try:
            await self._gather(hooks)
        except (OperationalError, PoolTimeout) as error:
            log.info("webhooks are told nothing new while the read models do not answer: %s", error)
        taken = await asyncio.to_thread(self._hooks.take)
        await asyncio.gather(*(self._send(each) for each in taken))

    async def _gather(self, hooks: list[Webhook]) -> None:
        async with self._reading() as connection:
            # The mark moves with every card; unknown ends and new webhooks do not move it, and are few.
            now = f"{await queue.mark(connection)} {sorted(hook.id for hook in hooks)}"
            for hook in hooks:
                if now != self._seen or hook.when == "unknown":
                    found = await queue.queue(connection, queue.Wanted([hook.tenant], hook.when))
                    await asyncio.to_thread(self._hooks.put, hook, [row["card"] for row in found.cards], found.total)
            self._seen = now

    async def _send(self, each: Message) -> None:
        ended = await deliver(each.hook, each.id, each.body)
        if not ended.delivered:
            log.warning("webhook %s of tenant %s: try %d in vain: %s", each.hook.id, each.hook.tenant, each.tries, ended.said)
        await asyncio.to_thread(self._hooks.ended, each, delivered=ended.delivered, said=ended.said, final=ended.final)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # a webhook must not end the desk; the next look may go well
                log.exception("webhooks could not be told")
            await asyncio.sleep(LOOK_S)


async def ping(hook: Webhook) -> Ended:
    """A message that says nothing but that messages arrive."""
    return await deliver(hook, f"msg_ping_{time.time_ns()}", message(hook, "ping", time.time(), [], 0))


async def deliver(hook: Webhook, id_: str, body: bytes) -> Ended:
    """One try. Never raises over what is at the other end."""
    parts = urlsplit(hook.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = await public_addresses(parts.hostname or "", port, allow_local=hook.private)
    except EgressDenied as error:
        return Ended(False, str(error))
    except TimeoutError:
        return Ended(False, "its name could not be looked up in time")
    headers = signed(hook.secret, id_, int(time.time()), body) | {"Content-Type": "application/json", "User-Agent": "chimera"}
    try:
        status = await asyncio.to_thread(_post, hook.url, addresses[0], port, body, headers)
    except (OSError, http.client.HTTPException) as error:
        return Ended(False, f"{type(error).__name__}: {error}"[:200])
    if 200 <= status < 300:
        return Ended(True, f"answered {status}")
    return Ended(False, f"answered {status}", final=status == GONE)


def signed(secret: str, id_: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks for a message. `secret` is as `new_secret` makes it, `at` seconds since the epoch."""
    key = base64.b64decode(secret.removeprefix(SECRET))
    made = hmac.new(key, f"{id_}.{at}.".encode() + body, hashlib.sha256).digest()
    return {"webhook-id": id_, "webhook-timestamp": str(at), "webhook-signature": f"v1,{base64.b64encode(made).decode()}"}


def _post(url: str, address: str, port: int, body: bytes, headers: Mapping[str, str]) -> int:
    """The status of the answer of who listens at that address under the URL's name."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    line = socket.create_connection((address, port), timeout=TIMEOUT_S)
    try:
        if parts.scheme == "https":
            line = ssl.create_default_context().wrap_socket(line, server_hostname=host)
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        connection.sock = line
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {**headers, "Host": parts.netloc, "Connection": "close"})
        return connection.getresponse().status
    finally:
        line.close()
