"""The X sandbox "twitter-sandbox": a real MCP server with xmcp's tools over a durable timeline, and its web page.

`python -m chimera.mcp.sandbox.x --data DIR [--port P]`. The one rule: it behaves like the platform towards the gate, faults
included; what only a sandbox can do (accounts by name, idempotency keys) travels in `_meta`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from mcp.server import Server
from mcp.types import CallToolResult
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.mcp.sandbox import page, x_media
from chimera.mcp.sandbox.audience import Audience
from chimera.mcp.sandbox.faults import FaultBook, Faults, Words, faults_of
from chimera.mcp.sandbox.serving import CallContext, error_result, json_result, serve, serving_arguments, tool_server
from chimera.mcp.sandbox.timeline import Message, PlatformRefused, Post, Timeline, user_id_of
from chimera.mcp.sandbox.x_audience import arrive, public_metrics
from chimera.mcp.sandbox.x_media import XMedia
from chimera.mcp.sandbox.x_tools import TOOLS
from chimera.media.store import MediaStore

_ACCOUNT = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")
WORDS = Words(
    busy='HTTP error 429: Too Many Requests - {"title":"Too Many Requests","status":429}',
    refusal='HTTP error 403: Forbidden - {"title":"Forbidden","status":403}',
    broken='HTTP error 503: Service Unavailable - {"title":"Service Unavailable","status":503}',
)


class XSandbox:
    """The tools over one timeline. All SQLite work runs in one thread of its own, in order."""

    def __init__(
        self, timeline: Timeline, faults: Faults | None = None, audience: Audience | None = None, media: XMedia | None = None
    ) -> None:
        """Without an `audience` nobody looks, and nobody speaks who is not of this fleet."""
        self.timeline = timeline
        self.audience = audience or Audience(timeline.path.parent)
        self.media = media or XMedia(timeline.path.parent, timeline.clock)
        self._faults = faults or Faults(FaultBook(timeline.path.parent), WORDS)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="timeline")

    async def _run(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def handle(self, tool: str, arguments: dict[str, Any], context: CallContext) -> CallToolResult:
        """One tool call, with the faults that were asked for."""
        account = (context.account or "").removeprefix("@")
        if not _ACCOUNT.match(account):
            return _http_error(401, "Unauthorized", "Unauthorized: no account is signed in (_meta chimera/account).")
        seen = False

        def count() -> None:
            nonlocal seen
            if not seen:
                self.timeline.count_call(tool, account, context.key)
            seen = True

        def answer() -> CallToolResult:
            count()
            return self._act(tool, arguments, account, context.key)

        async def act() -> CallToolResult:
            try:
                result: CallToolResult = await self._run(answer)
            except PlatformRefused as no:
                return _http_error(no.status, no.title, no.detail)
            return result

        # In one turn of the thread, unless something goes wrong first: a turn costs as much as its work.
        return await self._faults.around(tool, act, partial(self._run, count))

    def _act(self, tool: str, arguments: dict[str, Any], account: str, key: str | None) -> CallToolResult:
        timeline = self.timeline
        if tool in x_media.TOOLS:
            return json_result(self.media.act(tool, arguments, account))
        if tool == "createPosts":
            assets = self.media.assets(account, arguments.get("media", {}).get("media_ids", []))
            # A repeated call may have sent its files again: what counts is which files they are, not their ids.
            meant = {**arguments, "media": {"assets": assets}} if assets else arguments
            return _marked(*timeline.once(account, key, tool, meant, lambda: self._create(account, arguments, assets)))
        if tool == "deletePosts":
            return _marked(*timeline.once(account, key, tool, arguments, lambda: self._delete(account, arguments)))
        if tool == "likePost":
            return _marked(*timeline.once(account, key, tool, arguments, lambda: self._like(account, arguments)))
        if tool == "getPostsById":
            post = timeline.get(int(arguments["id"]))
            if post is None:
                raise PlatformRefused(404, "Not Found Error", f"Could not find tweet with id: [{arguments['id']}].")
            arrive(timeline, self.audience, post.account)
            counted = "public_metrics" in arguments.get("tweet.fields", ())
            numbers = {"public_metrics": public_metrics(timeline, self.audience, post)} if counted else {}
            return json_result({"data": _post_json(post) | numbers})
        if tool == "createDirectMessagesByParticipantId":
            return _marked(*timeline.once(account, key, tool, arguments, lambda: self._send(account, arguments)))
        if tool == "getDirectMessagesEvents":
            timeline.know(account)
            before, limit = int(arguments.get("pagination_token", 1 << 62)), arguments.get("max_results", 100)
            asked = frozenset(arguments.get("dm_event.fields", ())), "sender_id" in arguments.get("expansions", ())
            return json_result(_messages(timeline.messages(account, until_id=before, limit=limit + 1), limit, *asked))
        if tool == "getUsersMe":
            return json_result({"data": self._me(account, arguments.get("user.fields", ()))})
        limits = {"since_id": int(arguments.get("since_id", 0)), "limit": arguments.get("max_results", 10)}
        if tool == "searchPostsRecent":
            return json_result(_page(timeline.search(arguments["query"], **limits)))
        until = arguments.get("pagination_token") or arguments.get("until_id")
        limits["until_id"] = int(until) if until else 1 << 62
        whose = timeline.account_of(arguments["id"])
        if whose is None:
            raise PlatformRefused(404, "Not Found Error", f"Could not find user with id: [{arguments['id']}].")
        arrive(timeline, self.audience, whose)
        found = timeline.posts(whose, **limits) if tool == "getUsersPosts" else timeline.mentions(whose, **limits)
        return json_result(_page(found, "author_id" in arguments.get("expansions", ())))

    def _me(self, account: str, fields: Sequence[str]) -> dict[str, Any]:
        me: dict[str, Any] = {"id": self.timeline.know(account), "name": account, "username": account}
        if "public_metrics" in fields:
            follow = self.audience.followers(account, self.timeline.first_at(account))
            me["public_metrics"] = {"followers_count": follow, "tweet_count": self.timeline.count(account)}
        return me

    def _create(self, account: str, arguments: dict[str, Any], assets: list[str]) -> dict[str, Any]:
        extra = {key: value for key, value in arguments.items() if key not in ("text", "reply")}
        extra |= {"assets": assets} if assets else {}
        reply_to = arguments.get("reply", {}).get("in_reply_to_tweet_id")
        post = self.timeline.post(account, arguments.get("text", ""), None if reply_to is None else int(reply_to), extra)
        return {"data": {"id": str(post.id), "text": post.text, "edit_history_tweet_ids": [str(post.id)]}}

    def _delete(self, account: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.timeline.delete(account, int(arguments["id"]))
        return {"data": {"deleted": True}}

    def _like(self, account: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.timeline.like(account, int(arguments["tweet_id"]))
        return {"data": {"liked": True}}

    def _send(self, account: str, arguments: dict[str, Any]) -> dict[str, Any]:
        sent = self.timeline.message(account, arguments["participant_id"], arguments.get("text", ""))
        return {"data": {"dm_conversation_id": sent.conversation, "dm_event_id": str(sent.id)}}

    async def status(self, request: Request) -> Response:
        """`/{account}/status/{id}`: one post."""
        post = await self._run(self.timeline.get, request.path_params["id"])
        if post is None or post.account != request.path_params["account"]:
            return page.html("Not found", ["<p>This post does not exist.</p>"], 404)
        return page.html(f"@{post.account}", [page.card(await self._run(page.x_card, self.timeline, self.audience, post))])

    def server(self) -> Server[Any]:
        return tool_server("twitter-sandbox", TOOLS, self.handle, self._faults.listed)

    def routes(self) -> list[Route]:
        home = self.timeline.path.parent
        return [
            page.timeline_route({"x": home}),
            page.media_route([MediaStore(home / "media")]),
            Route("/{account}/status/{id:int}", self.status),
        ]


def _page(posts: list[Post], with_authors: bool = False) -> dict[str, Any]:
    """A page of posts, as X answers, and their authors beside them where asked; no `data` when there are none."""
    meta: dict[str, Any] = {"result_count": len(posts)}
    if not posts:
        return {"meta": meta}
    meta |= {"newest_id": str(posts[0].id), "oldest_id": str(posts[-1].id), "next_token": str(posts[-1].id)}
    answer: dict[str, Any] = {"data": [_post_json(post) for post in posts], "meta": meta}
    return answer | (_users(post.account for post in posts) if with_authors else {})


def _users(names: Iterable[str]) -> dict[str, Any]:
    """Who is named by id, as X's expansions tell it."""
    return {"includes": {"users": [{"id": user_id_of(name), "name": name, "username": name} for name in sorted(set(names))]}}


def _post_json(post: Post) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": str(post.id),
        "text": post.text,
        "author_id": user_id_of(post.account),
        "created_at": datetime.fromtimestamp(post.created_at, UTC).isoformat(timespec="milliseconds"),
        "conversation_id": str(post.conversation),
    }
    if post.reply_to is not None:
        data["referenced_tweets"] = [{"type": "replied_to", "id": str(post.reply_to)}]
    return data


def _messages(found: list[Message], limit: int, fields: frozenset[str], with_senders: bool) -> dict[str, Any]:
    """A page of direct messages, as X answers: of each the fields that were asked for, and the senders beside them."""
    page = found[:limit]
    meta: dict[str, Any] = {"result_count": len(page)}
    if not page:
        return {"meta": meta}
    if len(found) > limit:
        meta["next_token"] = str(page[-1].id)
    answer: dict[str, Any] = {"data": [_message_json(message, fields) for message in page], "meta": meta}
    return answer | (_users(message.sender for message in page) if with_senders else {})


def _message_json(message: Message, fields: frozenset[str]) -> dict[str, Any]:
    whole = {
        "id": str(message.id),
        "event_type": "MessageCreate",
        "text": message.text,
        "sender_id": user_id_of(message.sender),
        "participant_ids": [user_id_of(message.sender), user_id_of(message.recipient)],
        "dm_conversation_id": message.conversation,
        "created_at": datetime.fromtimestamp(message.created_at, UTC).isoformat(timespec="milliseconds"),
    }
    return {name: value for name, value in whole.items() if name in fields | {"id", "event_type", "text"}}


def _marked(response: dict[str, Any], repeated: bool) -> CallToolResult:
    return json_result(response, {"chimera/duplicate": True} if repeated else None)


def _http_error(status: int, title: str, detail: str) -> CallToolResult:
    """An error as a server generated from X's OpenAPI tells it: the HTTP status, then X's problem document."""
    problem = orjson.dumps({"title": title, "detail": detail, "type": "about:blank", "status": status}).decode()
    return error_result(f"HTTP error {status}: {title} - {problem}")


def main() -> None:
    parser = serving_arguments("X sandbox: a durable timeline behind X's MCP tools")
    parser.add_argument("--data", type=Path, required=True, help="folder of the timeline")
    options = parser.parse_args()
    sandbox = XSandbox(Timeline(options.data), faults_of(options, "x", TOOLS, WORDS), Audience(options.data, options.pace))
    serve(sandbox.server(), options, sandbox.routes())


if __name__ == "__main__":
    main()
