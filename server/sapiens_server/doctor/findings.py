"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: What it is about.
        level: "error" keeps the server from serving, "warning" may do so later or for some requests.
        seen: What is there, or what is wrong.
        advice: What to do; empty: nothing.
    """

    topic: str
    level: Level
    seen: str
    advice: str = ""


def finding_of(topic: str, error: Exception, level: Level = "error") -> Finding:
    """Return what an error of this project says, whose last words are the advice."""
    message = " ".join(str(error).split())
    seen, mark, advice = message.rpartition("; ")
    return Finding(topic, level, seen, advice) if mark else Finding(topic, level, message)
