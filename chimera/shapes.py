"""What people may write where a name, a number or a hash is asked for, with the words that say so.

The rule not to break: whoever is refused is told what is allowed and given an example, never a regular expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class Shaped:
    """A text of this `pattern`, of `shortest` to `longest` signs; `words`: what is said instead of taking another one.

    In a JSON Schema it is what `Field(pattern=..., min_length=..., max_length=...)` is there.
    """

    pattern: str
    words: str
    shortest: int | None = None
    longest: int | None = None

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(pattern=self.pattern, min_length=self.shortest, max_length=self.longest)
        return core_schema.custom_error_schema(text, "shape", custom_error_message=self.words)


TenantName = Annotated[str, Shaped(r"^[\w.-]+$", "write it with letters, digits, '.', '_' and '-', as in acme-eu", 1)]
Symbol = Annotated[str, Shaped(r"^[A-Z][A-Z0-9]{1,11}$", "write it with 2 to 12 capital letters and digits, as in USDC")]
"""Of what is moved on a chain."""
