"""The tools of X's own MCP server (xmcp), as literal JSON Schemas: names, arguments and limits of X's API v2.

The one rule: this is a foreign contract. Nothing of Chimera's goes in here; what Chimera adds travels in `_meta`.
"""

from __future__ import annotations

from typing import Any

from mcp.types import Tool

_ID = {"type": "string", "pattern": "^[0-9]{1,19}$"}
_POST_FIELDS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}


def _page(lowest: int, highest: int) -> dict[str, Any]:
    return {
        "max_results": {"type": "integer", "minimum": lowest, "maximum": highest, "description": "The maximum number of results."},
        "pagination_token": {
            "type": "string",
            "minLength": 1,
            "description": "This parameter is used to get the next page of results.",
        },
        "since_id": {**_ID, "description": "The minimum Post ID to be included in the result set (exclusive)."},
        "until_id": {**_ID, "description": "The maximum Post ID to be included in the result set (exclusive)."},
        "tweet.fields": _POST_FIELDS,
    }


_MESSAGE_FIELDS = {
    "type": "array",
    "uniqueItems": True,
    "items": {
        "type": "string",
        "enum": [
            "attachments",
            "created_at",
            "dm_conversation_id",
            "entities",
            "event_type",
            "id",
            "participant_ids",
            "referenced_tweets",
            "sender_id",
            "text",
        ],
    },
}

_MEDIA_CATEGORIES = ["amplify_video", "tweet_gif", "tweet_image", "tweet_video", "dm_gif", "dm_image", "dm_video", "subtitles"]
_MEDIA_TYPES = [
    "video/mp4",
    "video/webm",
    "video/mp2t",
    "video/quicktime",
    "text/srt",
    "text/vtt",
    "image/jpeg",
    "image/gif",
    "image/bmp",
    "image/png",
    "image/webp",
    "image/pjpeg",
    "image/tiff",
    "model/gltf-binary",
    "model/vnd.usdz+zip",
]

CREATE_POSTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "card_uri": {"type": "string"},
        "community_id": {**_ID, "description": "The unique identifier of this Community."},
        "direct_message_deep_link": {"type": "string"},
        "for_super_followers_only": {"type": "boolean", "default": False},
        "geo": {"type": "object", "properties": {"place_id": {"type": "string"}}, "additionalProperties": False},
        "made_with_ai": {"type": "boolean", "description": "Whether the Post contains AI-generated media or text."},
        "media": {
            "type": "object",
            "properties": {
                "media_ids": {"type": "array", "items": _ID, "minItems": 1, "maxItems": 4},
                "tagged_user_ids": {"type": "array", "items": _ID, "maxItems": 10},
            },
            "required": ["media_ids"],
            "additionalProperties": False,
        },
        "nullcast": {"type": "boolean", "default": False},
        "paid_partnership": {"type": "boolean", "description": "Whether the Post is a paid partnership."},
        "poll": {
            "type": "object",
            "properties": {
                "duration_minutes": {"type": "integer", "minimum": 5, "maximum": 10080},
                "options": {
                    "type": "array",
                    "items": {"type": "string", "minLength": 1, "maxLength": 25},
                    "minItems": 2,
                    "maxItems": 4,
                },
                "reply_settings": {"type": "string", "enum": ["following", "mentionedUsers", "subscribers", "verified"]},
            },
            "required": ["options", "duration_minutes"],
            "additionalProperties": False,
        },
        "quote_tweet_id": _ID,
        "reply": {
            "type": "object",
            "properties": {
                "exclude_reply_user_ids": {"type": "array", "items": _ID},
                "in_reply_to_tweet_id": _ID,
            },
            "required": ["in_reply_to_tweet_id"],
            "additionalProperties": False,
        },
        "reply_settings": {"type": "string", "enum": ["following", "mentionedUsers", "subscribers", "verified"]},
        "share_with_followers": {"type": "boolean", "default": False},
        "text": {"type": "string", "description": "The content of the Post."},
    },
}

TOOLS: tuple[Tool, ...] = (
    Tool(
        name="createPosts",
        description="Create or Edit Post. Causes the User to create or edit a Post under the authorized account.",
        input_schema=CREATE_POSTS,
    ),
    Tool(
        name="deletePosts",
        description="Delete Post. Delete specified Post (in the path) by ID.",
        input_schema={
            "type": "object",
            "properties": {"id": {**_ID, "description": "The ID of the Post to be deleted."}},
            "required": ["id"],
        },
    ),
    Tool(
        name="getPostsById",
        description="Get Post by ID. Retrieves details of a specific Post by its ID.",
        input_schema={
            "type": "object",
            "properties": {
                "id": {**_ID, "description": "A single Post ID."},
                "tweet.fields": _POST_FIELDS,
                "expansions": _POST_FIELDS,
                "user.fields": _POST_FIELDS,
            },
            "required": ["id"],
        },
    ),
    Tool(
        name="likePost",
        description="Like Post. Causes the authenticated user to Like a specific Post by its ID.",
        input_schema={
            "type": "object",
            "properties": {
                "id": {**_ID, "description": "The ID of the authenticated source User that is requesting to like the Post."},
                "tweet_id": _ID,
            },
            "required": ["id", "tweet_id"],
        },
    ),
    Tool(
        name="getUsersMe",
        description="Get my User. Retrieves details of the authenticated user.",
        input_schema={"type": "object", "properties": {"user.fields": _POST_FIELDS}},
    ),
    Tool(
        name="getUsersPosts",
        description="Get Posts. Retrieves a list of posts authored by a specific User by their ID.",
        input_schema={
            "type": "object",
            "properties": {
                "id": {**_ID, "description": "The ID of the User to lookup."},
                **_page(5, 100),
                "exclude": {"type": "array", "items": {"type": "string", "enum": ["replies", "retweets"]}},
            },
            "required": ["id"],
        },
    ),
    Tool(
        name="getUsersMentions",
        description="Get mentions. Retrieves a list of Posts that mention a specific User by their ID.",
        input_schema={
            "type": "object",
            "properties": {
                "id": {**_ID, "description": "The ID of the User to lookup."},
                **_page(5, 100),
                "expansions": _POST_FIELDS,
                "user.fields": _POST_FIELDS,
            },
            "required": ["id"],
        },
    ),
    Tool(
        name="getDirectMessagesEvents",
        description="Get DM events. Retrieves a list of recent direct message events across all conversations.",
        input_schema={
            "type": "object",
            "properties": {
                "max_results": {"type": "integer", "minimum": 1, "maximum": 100, "default": 100},
                "pagination_token": {"type": "string", "minLength": 1},
                "event_types": {
                    "type": "array",
                    "uniqueItems": True,
                    "minItems": 1,
                    "items": {"type": "string", "enum": ["MessageCreate", "ParticipantsJoin", "ParticipantsLeave"]},
                },
                "dm_event.fields": _MESSAGE_FIELDS,
                "expansions": {
                    "type": "array",
                    "uniqueItems": True,
                    "items": {
                        "type": "string",
                        "enum": ["attachments.media_keys", "participant_ids", "referenced_tweets.id", "sender_id"],
                    },
                },
                "user.fields": _POST_FIELDS,
            },
        },
    ),
    Tool(
        name="createDirectMessagesByParticipantId",
        description="Create DM message by participant ID. Sends a new direct message to a specific participant by their ID.",
        input_schema={
            "type": "object",
            "properties": {
                "participant_id": {**_ID, "description": "The ID of the recipient user that will receive the DM."},
                "text": {"type": "string", "minLength": 1, "description": "Text of the message."},
                "attachments": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"media_id": _ID},
                        "required": ["media_id"],
                        "additionalProperties": False,
                    },
                },
            },
            "required": ["participant_id"],
        },
    ),
    Tool(
        name="searchPostsRecent",
        description="Search recent Posts. Retrieves Posts from the last 7 days matching a search query.",
        input_schema={
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1, "maxLength": 4096},
                **_page(10, 100),
                "sort_order": {"type": "string", "enum": ["recency", "relevancy"]},
            },
            "required": ["query"],
        },
    ),
    Tool(
        name="initializeMediaUpload",
        description="Initialize media upload. Initializes a media upload.",
        input_schema={
            "type": "object",
            "properties": {
                "additional_owners": {"type": "array", "items": _ID},
                "media_category": {"type": "string", "enum": _MEDIA_CATEGORIES},
                "media_type": {"type": "string", "enum": _MEDIA_TYPES},
                "shared": {"type": "boolean"},
                "total_bytes": {"type": "integer", "minimum": 0, "maximum": 17179869184},
            },
        },
    ),
    Tool(
        name="appendMediaUpload",
        description="Append Media upload. Appends data to a Media upload request.",
        input_schema={
            "type": "object",
            "properties": {
                "id": {**_ID, "description": "The media id of the media to perform the append operation."},
                "media": {"type": "string", "description": "The segment, in base64."},
                "segment_index": {
                    "anyOf": [{"type": "integer", "minimum": 0, "maximum": 999}, {"type": "string", "pattern": "^[0-9]{1,3}$"}]
                },
            },
            "required": ["id", "media", "segment_index"],
        },
    ),
    Tool(
        name="finalizeMediaUpload",
        description="Finalize Media upload. Finalizes a Media upload request.",
        input_schema={
            "type": "object",
            "properties": {"id": {**_ID, "description": "The media id of the targeted media to finalize."}},
            "required": ["id"],
        },
    ),
    Tool(
        name="getMediaUploadStatus",
        description="Get Media upload status. Retrieves the status of a Media upload by its ID.",
        input_schema={
            "type": "object",
            "properties": {
                "media_id": {**_ID, "description": "Media id for the requested media upload status."},
                "command": {"type": "string", "enum": ["STATUS"]},
            },
            "required": ["media_id"],
        },
    ),
)
