"""The log as JSON, a line per record, for machines that collect it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from sapiens_server.server_log import SERVER_LINE

_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "fatal"}
_OWN_LINE = re.compile(r"(error|warning|note): ", re.DOTALL)
_REQUEST_ID = re.compile(r"\[request id: ([^]]+)\]")
_NO_ID = "<id_unknown>"


def json_line(line: str, **facts: object) -> str:
    """Return a line of the log as one JSON object.

    Args:
        line: What `sapiens serve`, tritonserver or a Python model wrote.
        facts: Further fields; those that are None are left out.

    Returns:
        An object with `time` (UTC), `level`, `source` ("sapiens", "tritonserver", or "model" for what else is
        written there), `message`, and where they are known `request_id` and `where` (file and line).
    """
    record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **_read(line), **facts}
    if found := _REQUEST_ID.search(str(record["message"])):
        record["request_id"] = found[1]
    known = {name: value for name, value in record.items() if value is not None and value != _NO_ID}
    return json.dumps(known)


def _read(line: str) -> Mapping[str, str]:
    if server_line := SERVER_LINE.match(line):
        level, where, message = server_line.groups()
        return {
            "level": _LEVELS[level],
            "source": "tritonserver",
            "message": _unescaped(message),
            "where": where,
        }
    if own_line := _OWN_LINE.match(line):
        level = own_line[1].replace("note", "info")
        return {"level": level, "source": "sapiens", "message": line[own_line.end() :]}
    return {"level": "info", "source": "model", "message": line}


def _unescaped(message: str) -> str:
    """Undo what tritonserver does to line breaks and quotes."""
    try:
        return str(json.loads(f'"{message}"', strict=False))
    except ValueError:
        return message
