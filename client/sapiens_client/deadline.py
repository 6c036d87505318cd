"""The moment by which a call must have its answer."""

from __future__ import annotations

import numbers
import time
from dataclasses import dataclass

from sapiens_client.errors import InvalidInputError, RequestTimeoutError

MAX_TIMEOUT_S = 1e6  # gRPC takes deadlines centuries away for deadlines that have passed


@dataclass(frozen=True)
class Deadline:
    """One deadline for all requests that a call makes.

    Attributes:
        timeout_s: The time that the caller allowed.
        ends_at_s: The moment on the clock of `time.monotonic`.
    """

    timeout_s: float
    ends_at_s: float

    @classmethod
    def after(cls, timeout_s: float) -> Deadline:
        """Start the clock.

        Raises:
            InvalidInputError: `timeout_s` is not a positive, finite number of seconds.
        """
        if not isinstance(timeout_s, numbers.Real) or not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise InvalidInputError(
                f"timeout_s must be above 0 and at most {MAX_TIMEOUT_S:g} seconds, got {timeout_s!r}"
            )
        return cls(float(timeout_s), time.monotonic() + float(timeout_s))

    def left_s(self) -> float:
        """Return the seconds that are left, negative once they have passed."""
        return self.ends_at_s - time.monotonic()

    def missed(self, what: str) -> RequestTimeoutError:
        """Return the error that something was not there in time."""
        return RequestTimeoutError(
            f"{what} must be there within {self.timeout_s:g} s, got nothing yet; allow more with timeout_s"
        )
