"""What a call leaves behind: the `Outcome` for the caller and the `ToolCallRecord` for the log of calls.

The one rule: a record holds shapes, hashes and codes, never contents; an outcome's `detail` and `data` hold outside words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from chimera.mcp.profiles import Rendered
from chimera.mcp.spec import Taint
from chimera.media.store import Asset

Result = Literal["ok", "refused", "unknown", "not_sent", "submitted"]


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    ok: done. refused: not done, and the same call will not be. not_sent: provably nothing happened, later may work.
    submitted: the platform took the job and gave a `handle` to ask about it. unknown: it may have happened. `reason` is a code
    fit for logs; `detail` is for people and may hold outside words.
    """

    result: Result
    reason: str = ""
    detail: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    platform_id: str | None = None
    handle: str | None = None
    url: str | None = None
    cost_usd: Decimal = Decimal(0)
    latency_ms: int = 0
    taint: Taint = "open"
    profile: str = ""
    tool: str = ""
    server_version: str = ""
    """Of the MCP server that answered, as it tells it; empty = it does not, or none answered."""
    receipt: dict[str, str] = field(default_factory=dict)
    """What the log keeps of the answer, by the profile's `result.receipt`."""
    assets: tuple[Asset, ...] = ()
    """Files that the answer brought, in the media store by now."""

    @classmethod
    def stopped(cls, rendered: Rendered, result: Result, reason: str, detail: str = "") -> Outcome:
        """An outcome without an answer; what may have happened may have cost."""
        cost = rendered.cost_usd if result == "unknown" else Decimal(0)
        return cls(result=result, reason=reason, detail=detail, cost_usd=cost, profile=rendered.profile, tool=rendered.tool)


@dataclass(frozen=True)
class ToolCallRecord:
    """One call, for `chimera.calls`. `latency_ms` includes connecting; `cost_usd` is by the profile's table."""

    agent: str
    tenant: str
    profile: str
    mode: str
    tool: str
    capability: str
    account: str | None
    argument_shape: dict[str, str]
    arguments_sha256: str
    result_class: str
    reason: str
    latency_ms: int
    cost_usd: Decimal
    schema_sha256: str
    correlation: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; money as a string."""
        return {**vars(self), "cost_usd": str(self.cost_usd)}


def argument_shape(arguments: Mapping[str, Any], schema: Mapping[str, Any], at: str = "") -> dict[str, str]:
    """Path -> type and length. Only keys that the schema names are shown: others may be contents."""
    shape: dict[str, str] = {}
    properties = schema.get("properties", {})
    for key, value in arguments.items():
        path = f"{at}{key}"
        if key not in properties:
            shape[f"{at}*"] = "undeclared"
        elif isinstance(value, Mapping) and properties[key].get("properties"):
            shape |= argument_shape(value, properties[key], f"{path}.")
        elif isinstance(value, str):
            shape[path] = f"string[{len(value)}]"
        elif isinstance(value, Mapping):
            shape[path] = f"object[{len(value)}]"
        elif isinstance(value, list | tuple):
            shape[path] = f"array[{len(value)}]"
        else:
            shape[path] = {bool: "boolean", int: "integer", float: "number", type(None): "null"}.get(type(value), "other")
    return shape
