"""Where the models come from that answer, told once each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapiens_client.cli.streams import tell

if TYPE_CHECKING:
    from sapiens_client.results.base import Result
    from sapiens_core.contract.model_info import ModelInfo


class Introductions:
    """Tells of models.

    Args:
        quiet: Tell of none.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._introduced: set[ModelInfo] = set()

    def of(self, result: Result) -> None:
        """Tell whose network a result is, unless that was said."""
        model = result.model
        if self._quiet or model in self._introduced:
            return
        self._introduced.add(model)
        tell(f"{model.task} by {model.family} {model.size}, licence of the weights: {model.licence}")
        if model.untrained:
            tell("the served model is untrained (random weights): its results mean nothing")
