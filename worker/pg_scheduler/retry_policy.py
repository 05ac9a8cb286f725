"""How long a failed job waits for its next attempt: initial, then each time longer by factor, up to maximum.

Invariant: a policy that exists has been checked, and it comes back equal from its JSON form, which a job's row keeps.
"""

import json
import math
from dataclasses import asdict, dataclass

from pg_scheduler.errors import InvalidArgument

SECONDS_MAX = 366 * 24 * 3600
FACTOR_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The delays between the attempts of a job that fails; how many there are is ``max_retries``.

    Attributes:
        initial: seconds before the first retry, 0 to 366 days.
        maximum: seconds that no delay exceeds, ``initial`` to 366 days.
        factor: by what each delay is longer than the one before, 1 to 100.
        jitter: the part of a delay, 0 to 1, by which chance may shorten or lengthen it, so that jobs that failed
            together do not come back together.

    Raises:
        InvalidArgument: a value out of its range, with the range.
    """

    initial: float = 60
    maximum: float = 300
    factor: float = 2
    jitter: float = 0

    def __post_init__(self) -> None:
        _require("initial", self.initial, 0, SECONDS_MAX)
        _require("maximum", self.maximum, self.initial, SECONDS_MAX)
        _require("factor", self.factor, 1, FACTOR_MAX)
        _require("jitter", self.jitter, 0, 1)

    def to_json(self) -> str:
        """The form that a row keeps: an object of the four figures."""
        return json.dumps(asdict(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "RetryPolicy":
        """The policy of a row; figures that are left out have their defaults.

        Raises:
            InvalidArgument: not an object of these figures (a row written by hand).
        """
        try:
            return cls(**json.loads(text))
        except InvalidArgument:
            raise
        except (ValueError, TypeError) as error:
            raise InvalidArgument(
                "retry_policy is not a JSON object of a retry policy",
                fix='write {"initial": …, "maximum": …, "factor": …, "jitter": …}, all optional',
            ) from error


def _require(name: str, value: object, low: float, high: float) -> None:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not low <= value <= high
    ):
        raise InvalidArgument(
            f"retry_policy: {name} is {str(value)[:40]!r}", fix=f"give a number from {low:g} to {high:g}"
        )
