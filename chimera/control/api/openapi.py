"""The OpenAPI 3.1 document of the API, from the table of operations and the models (`python -m chimera.control.api.openapi docs`).

The rule not to break: it says what the code does and nothing else; a test holds the committed copy against this.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from chimera.control.access import Action
from chimera.control.api.models import Problem
from chimera.control.routes import WAYS

FILE = Path("reference") / "openapi.json"
_REF = "#/components/schemas/{model}"
_WHO: Mapping[Action | None, str] = {
    None: "any token",
    "read": "viewer",
    "decide": "moderator or finance",
    "decide_money": "finance",
    "operate": "operator",
    "administer": "admin",
}
_PROBLEMS = {
    "401": "no token, or one that is over",
    "403": "the token does not reach so far",
    "404": "nothing like that is here, or not for this token",
    "409": "refused: the state is another than the wish rests on",
    "422": "what was sent is not what the operation takes",
    "429": "too often: see Retry-After",
    "503": "the read models or the command service do not answer now",
}
_PLACES = {
    "name": "an agent's name",
    "agent": "the name of the card's agent",
    "number": "the rest of the card's address: campaign.task.attempt",
    "tenant": "a tenant",
    "campaign": "a campaign's id",
}


class Row(Protocol):
    """What of an operation the document tells."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def does(self) -> Any: ...
    @property
    def answer(self) -> type[BaseModel]: ...
    @property
    def body(self) -> type[BaseModel] | None: ...
    @property
    def query(self) -> type[BaseModel]: ...


def document(base: str, operations: Sequence[Row]) -> bytes:
    """The document as JSON, the same bytes for the same operations."""
    asked = {(each.body, "validation") for each in operations if each.body is not None}
    told = {(each.answer, "serialization") for each in operations} | {(Problem, "serialization")}
    models = sorted(asked | told, key=lambda pair: pair[0].__name__)
    _, schemas = models_json_schema(models, ref_template=_REF)  # type: ignore[arg-type]  # the modes are literals
    paths: dict[str, dict[str, Any]] = {}
    actions = {(way.path, way.method): way.action for way in WAYS}
    for each in operations:
        path = base + each.path
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, actions[path, each.method])
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Chimera Mission Control",
            "version": "1",
            "description": "The desk of a fleet for programs. Every call shows a token of `chimera control token add`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas["$defs"],
            "responses": {
                f"Problem{status}": {
                    "description": why,
                    "content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}},
                    **({"headers": {"Retry-After": {"schema": {"type": "integer"}}}} if status == "429" else {}),
                }
                for status, why in _PROBLEMS.items()
            },
        },
    }
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def _operation(each: Row, action: Action | None) -> dict[str, Any]:
    places = [
        {"name": name, "in": "path", "required": True, "description": _PLACES[name], "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", each.path)
    ]
    made: dict[str, Any] = {
        "operationId": each.name,
        "summary": (each.does.__doc__ or "").split("\n")[0],
        "description": f"Takes the role {_WHO[action]} where the thing belongs, or admin." if action else "Takes any token.",
        "parameters": places + _questions(each.query),
        "responses": {
            "200": {
                "description": (each.answer.__doc__ or "").split("\n")[0],
                "content": {"application/json": {"schema": {"$ref": _REF.format(model=each.answer.__name__)}}},
            },
            **{status: {"$ref": f"#/components/responses/Problem{status}"} for status in _PROBLEMS},
        },
    }
    if each.body is not None:
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REF.format(model=each.body.__name__)}}},
        }
        made["parameters"].append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Names the wish: sent again with this key to this path it counts once, as it was first sent.",
                "schema": {"type": "string", "maxLength": 200, "pattern": "^[A-Za-z0-9_.-]*$"},
            }
        )
    return made


def _questions(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            **({"description": told} if (told := field.get("description")) else {}),
            "schema": {key: value for key, value in field.items() if key not in ("title", "description")},
        }
        for name, field in schema.get("properties", {}).items()
    ]


def main(docs: Path) -> None:
    """Write the committed copy again."""
    from chimera.control.api.operations import BASE, OPERATIONS

    (docs / FILE).write_bytes(document(BASE, OPERATIONS))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
