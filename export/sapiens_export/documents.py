"""JSON documents into dataclasses: strictly by the types of their fields, or told in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")
# What a dataclass has as `__pydantic_config__` to refuse keys that it has not.
NO_OTHER_KEYS = {"extra": "forbid"}


def from_json(kind: type[T], text: str | bytes) -> T:
    """Read a dataclass, and those in its fields; lists are read as tuples, nothing else is converted.

    Args:
        kind: The dataclass.
        text: JSON.

    Raises:
        ValueError: It is no such document; the message names each field that is not, and what was seen.
    """
    from pydantic import TypeAdapter, ValidationError  # here, because only those who have such files need it

    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError("; ".join(map(_sentence, error.errors(include_url=False)))) from error


def _sentence(detail: ErrorDetails) -> str:
    if "error" in detail.get("ctx", {}):  # what a dataclass itself says about its fields
        return str(detail["ctx"]["error"])
    field = ".".join(map(str, detail["loc"])) or "it"
    match detail["type"]:
        case "missing":
            return f"{field} is missing"
        case "unexpected_keyword_argument":
            return f"{field} is unknown"
    wanted = detail["msg"].replace("Input should be", "must be")
    return f"{field} {wanted}, got {detail['input']!r:.80}"
