"""How far an engine is from the float32 network, in numbers with limits."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from sapiens_core.recipes.tolerances import MEASURES


@dataclass(frozen=True)
class Measure:
    """One way in which an engine differs from the float32 network.

    Attributes:
        name: One of `sapiens_core.recipes.tolerances.MEASURES`.
        value: How much.
        limit: How much it may; None: this is only told.
    """

    name: str
    value: float
    limit: float | None

    @property
    def is_passed(self) -> bool:
        """It is a number, and within the limit if there is one."""
        return math.isfinite(self.value) and (self.limit is None or self.value <= self.limit)

    def __str__(self) -> str:
        allowed = "" if self.limit is None else f" ({self.limit:.2g} allowed)"
        return f"{self.name.replace('_', ' ')} {self.value:.2g} {MEASURES[self.name]}{allowed}"


@dataclass(frozen=True)
class ParityReport:
    """How far an engine is from the float32 network.

    Attributes:
        device: Where the engine ran: "cpu" or the name of the GPU.
        num_images: Images compared, each alone and in a batch where the engine takes one.
        measures: Of all outputs together, the worst one.
    """

    device: str
    num_images: int
    measures: tuple[Measure, ...]

    @property
    def is_passed(self) -> bool:
        """The engine may be installed. A NaN anywhere makes this false."""
        return all(measure.is_passed for measure in self.measures)

    def is_within(self, share: float) -> bool:
        """Return whether the engine takes up no more than a share of each limit."""
        return self.is_passed and all(
            measure.limit is None or measure.value <= share * measure.limit for measure in self.measures
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data; None stands for what is no number, which JSON has not."""
        measures = [
            {**asdict(each), "value": each.value if math.isfinite(each.value) else None}
            for each in self.measures
        ]
        return {**asdict(self), "measures": measures, "is_passed": self.is_passed}

    def __str__(self) -> str:
        told = [measure for measure in self.measures if measure.limit is not None or not measure.is_passed]
        return f"{', '.join(map(str, told))} on {self.num_images} images, {self.device}"
