"""The Instagram sandbox: jlbadano/ig-mcp's tools and words over two-step publication, 50 posts a day, and containers that expire.

The one rule: it fetches media only from the media store's addresses, and every failure is told as a success with `success: false`,
as the real server does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from mcp.types import CallToolResult, TextContent, Tool

from chimera.mcp.places import SANDBOX_MEDIA, asset_at
from chimera.mcp.sandbox import page
from chimera.mcp.sandbox.audience import Audience
from chimera.mcp.sandbox.faults import Words
from chimera.mcp.sandbox.gram import Gram, GramPost, seen_by
from chimera.mcp.sandbox.timeline import PlatformRefused
from chimera.mcp.sandbox.vendor import Vendor, schema
from chimera.media.store import MediaError, MediaStore

_STRING = {"type": "string"}
_URI = {"type": "string", "format": "uri"}


def _choice(*names: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string", "enum": list(names)}}


TOOLS = (
    Tool(name="get_profile_info", input_schema=schema({"account_id": _STRING})),
    Tool(
        name="get_media_posts",
        input_schema=schema(
            {
                "account_id": _STRING,
                "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 25},
                "after": _STRING,
            }
        ),
    ),
    Tool(
        name="get_media_insights",
        input_schema=schema(
            {"media_id": _STRING, "metrics": _choice("reach", "likes", "comments", "shares", "saved", "video_views")}, "media_id"
        ),
    ),
    Tool(
        name="publish_media",
        input_schema={
            **schema({"image_url": _URI, "video_url": _URI, "caption": _STRING, "location_id": _STRING}),
            "anyOf": [{"required": ["image_url"]}, {"required": ["video_url"]}],
        },
    ),
    Tool(name="get_account_pages", input_schema=schema({})),
    Tool(
        name="get_account_insights",
        input_schema=schema(
            {
                "account_id": _STRING,
                "metrics": _choice("reach", "profile_views", "website_clicks", "follower_count", "accounts_engaged"),
                "period": {"type": "string", "enum": ["day", "lifetime"], "default": "day"},
            }
        ),
    ),
    Tool(name="validate_access_token", input_schema=schema({})),
)


def _failure(message: str, code: int) -> str:
    body = {"success": False, "data": None, "error": f"Instagram API error: {message}", "metadata": {"error_code": code}}
    return orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()


WORDS = Words(
    busy=_failure("(#4) Application request limit reached", 4),
    refusal=_failure("(#100) The media was refused", 100),
    broken=_failure("(#2) Service temporarily unavailable", 2),
)
_CODES = {400: 100, 404: 100, 415: 352, 422: 100, 429: 9}
"""HTTP status -> the Graph API's error code."""


def vendor(gram: Gram, media: MediaStore, audience: Audience) -> Vendor:
    """The server over one file of posts; media are looked up in the store of this installation."""

    async def act(tool: str, arguments: dict[str, Any], account: str, key: str | None) -> CallToolResult:
        if not account:
            raise PlatformRefused(401, "OAuthException", "no account is signed in (_meta chimera/account)")
        return _success(tool, await _data(gram, media, audience, tool, arguments, account, key))

    return Vendor("instagram", TOOLS, WORDS, act, _refused, gram, [page.timeline_route({"instagram": gram.directory})])


async def _data(
    gram: Gram, media: MediaStore, audience: Audience, tool: str, arguments: dict[str, Any], account: str, key: str | None
) -> Any:
    def counts(post: GramPost) -> dict[str, int]:
        first_at = gram.first_at(post.account)
        return seen_by(post, post.made_at if first_at is None else first_at, audience)

    if tool == "publish_media":
        post = await _published(gram, media, arguments, account, key)
        return _post(post, counts(post))
    if tool == "get_media_posts":
        found = gram.posts(account, limit=arguments.get("limit", 25), before=arguments.get("after", ""))
        return {"posts": [_post(post, counts(post)) for post in found], "count": len(found)}
    if tool == "get_media_insights":
        asked = gram.post(arguments["media_id"])
        if asked is None:
            raise PlatformRefused(404, "OAuthException", "(#100) The media does not exist")
        told = counts(asked)
        return {"media_id": asked.id, "insights": _insights(told, arguments.get("metrics") or list(told))}
    if tool == "get_account_pages":
        return {"pages": [{"id": f"page-{account}", "name": account}], "count": 1}
    if tool == "validate_access_token":
        return {"valid": True}
    posts = gram.posts(account, limit=1 << 31)
    follow = audience.followers(account, gram.first_at(account))
    if tool == "get_account_insights":
        all_of_it = [counts(post) for post in posts]
        reach, liked = sum(each["reach"] for each in all_of_it), sum(each["likes"] for each in all_of_it)
        told = {"reach": reach, "profile_views": reach // 20, "website_clicks": reach // 200, "follower_count": follow}
        told["accounts_engaged"] = liked
        return {"insights": _insights(told, arguments.get("metrics") or list(told)), "period": arguments.get("period", "day")}
    return {"id": account, "username": account, "media_count": len(posts), "followers_count": follow}


def _insights(told: dict[str, int], wanted: list[str]) -> list[dict[str, Any]]:
    return [{"name": name, "values": [{"value": told.get(name, 0)}]} for name in wanted]


async def _published(gram: Gram, media: MediaStore, arguments: dict[str, Any], account: str, key: str | None) -> GramPost:
    """Fetch, contain, publish: what the real tool does in one call."""
    made = gram.known(account, key, arguments)
    if made is not None:
        return made
    url = arguments.get("video_url") or arguments["image_url"]
    asset = asset_at(SANDBOX_MEDIA, url)
    try:
        if asset is None or not await media.get(asset):
            raise MediaError("no such media")
    except MediaError:
        raise PlatformRefused(415, "OAuthException", "(#9004) The media could not be fetched from this URI") from None
    if asset.kind != ("video" if "video_url" in arguments else "image"):
        raise PlatformRefused(415, "OAuthException", "(#352) The media is of another type than was said")
    container = gram.contain(account, asset.name, asset.kind, arguments.get("caption", ""))
    return gram.publish(account, container, key, arguments)


def _post(post: GramPost, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "id": post.id,
        "caption": post.caption,
        "media_type": "VIDEO" if post.kind == "video" else "IMAGE",
        "media_url": SANDBOX_MEDIA + post.media,
        "permalink": f"https://www.instagram.com/p/{post.id}/",
        "timestamp": datetime.fromtimestamp(post.made_at, UTC).isoformat(timespec="milliseconds"),
        "like_count": counts["likes"],
        "comments_count": counts["comments"],
    }


def _success(tool: str, data: Any) -> CallToolResult:
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    body = {"success": True, "data": data, "error": None, "metadata": {"tool": tool, "timestamp": stamp}}
    return CallToolResult(content=[TextContent(type="text", text=orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())])


def _refused(tool: str, no: PlatformRefused) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=_failure(no.detail, _CODES.get(no.status, 1)))])
