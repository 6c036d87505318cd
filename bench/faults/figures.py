"""What a check measured, beside what is required."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row of the report.

    Attributes:
        what: Is measured.
        measured: As it is printed.
        required: As it is printed; empty where nothing is.
        is_met: Whether the one satisfies the other.
    """

    what: str
    measured: str
    required: str = ""
    is_met: bool = True

    def __str__(self) -> str:
        verdict = ("met" if self.is_met else "MISSED") if self.required else ""
        return f"{self.what} | {self.required} | {self.measured} | {verdict} |"


def exactly(what: str, value: object, wanted: object) -> Figure:
    """Require a value."""
    return Figure(what, str(value), str(wanted), value == wanted)


def at_most(what: str, value: float, limit: float, unit: str = "") -> Figure:
    """Require a number, whole or with a unit, not to exceed a limit."""
    return Figure(what, _number(value, unit), f"<= {_number(limit, unit)}", value <= limit)


def at_least(what: str, value: float, limit: float, unit: str = "") -> Figure:
    """Require a number, whole or with a unit, to reach a limit."""
    return Figure(what, _number(value, unit), f">= {_number(limit, unit)}", value >= limit)


def told(what: str, value: float, unit: str = "") -> Figure:
    """Tell a number of which nothing is required."""
    return Figure(what, _number(value, unit))


def _number(value: float, unit: str) -> str:
    return f"{value:.2f} {unit}" if unit else str(value)
