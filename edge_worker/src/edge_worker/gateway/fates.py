"""The fates of a task's calls: one table, by who gave an answer, what the answer is, and the route of the call. Pure.

Each call has exactly one of three fates: it is answered, it is held while a part of the way is down, or it fails for
good. What does not change however often the call is repeated must not be held: the task would wait forever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum

from edge_schemas.wire import routes
from edge_schemas.wire.errors import TOO_LARGE_STATUSES, ErrorCode
from edge_worker.jobs.machine import DROPPING_CODES
from edge_worker.relay.call_result import CallError, NoAnswer, Refused
from edge_worker.relay.client import ExecutionAnswer
from edge_worker.relay.retry import is_retryable

FAILURE_TRIES = 5
"""As often as Airflow's own client tries, by default: `[workers] execution_api_retries`."""
INTERNAL_TRIES = 60
"""For a fault in relay or gate, which a restart may end: some five minutes."""

Outcome = ExecutionAnswer | CallError
"""Of one try of a call."""


class Fate(Enum):
    """What becomes of a call."""

    ANSWERED = "answered"
    HELD = "held"
    FAILED = "fails"


class Origin(StrEnum):
    """Who gave an answer."""

    API_SERVER = "api-server"
    GATE = "gate"
    RELAY = "relay"
    PROXY = "proxy"
    """Something between worker and relay."""
    NOBODY = "nobody"


class Route(StrEnum):
    """What a call is for, as far as its fate depends on it."""

    FINAL_STATE = "final state"
    RENDERED_FIELDS = "rendered fields"
    WRITE = "write"
    """Any other write, `/run` included."""
    SECRET_READ = "read of a connection or a variable"  # noqa: S105 (the name of a route)
    READ = "read"
    """Any other read."""

    @property
    def is_read(self) -> bool:
        """The call changes nothing."""
        return self in {Route.SECRET_READ, Route.READ}


class Handed(StrEnum):
    """What the task gets in the end."""

    ANSWER = "the answer"
    REFUSAL = "403 with the reason"
    STOP = "409 `not_running`, for a read 403; the job is stopped"
    NOTHING = "nothing yet"


@dataclass(frozen=True)
class Rule:
    """A row of the table.

    Attributes:
        origin: Who gave the answer.
        answer: Which answers it is for, in words.
        matches: Whether it is for this outcome.
        fate: Of the call.
        handed: What the task gets.
        tries: How many such answers are needed; until then the call is repeated.
        route: None for all routes.
    """

    origin: Origin
    answer: str
    matches: Callable[[Outcome], bool]
    fate: Fate
    handed: Handed
    tries: int = 1
    route: Route | None = None


STOPPING_CODES = DROPPING_CODES | {ErrorCode.WRONG_STATE, ErrorCode.CREDENTIAL_REVOKED}
_LATER = frozenset({408, 429, 502, 503, 504})


def _always(_: Outcome) -> bool:
    return True


def _has_status(statuses: frozenset[int]) -> Callable[[Outcome], bool]:
    return lambda outcome: getattr(outcome, "status", None) in statuses


def _has_code(codes: frozenset[str]) -> Callable[[Outcome], bool]:
    return lambda outcome: isinstance(outcome, Refused) and outcome.code in codes


def _is_failure(outcome: Outcome) -> bool:
    return isinstance(outcome, ExecutionAnswer) and outcome.status >= 500


def _is_retryable(outcome: Outcome) -> bool:
    return isinstance(outcome, Refused) and is_retryable(outcome)


def _names(codes: frozenset[str]) -> str:
    return ", ".join(f"`{code}`" for code in sorted(codes))


def _of_ours(origin: Origin) -> tuple[Rule, ...]:
    """Relay and gate refuse with the same problem codes."""
    return (
        Rule(origin, _names(STOPPING_CODES), _has_code(STOPPING_CODES), Fate.FAILED, Handed.STOP),
        Rule(origin, "`internal`", _has_code(frozenset({"internal"})), Fate.FAILED, Handed.REFUSAL, INTERNAL_TRIES),
        Rule(origin, "any other retryable problem", _is_retryable, Fate.HELD, Handed.NOTHING),
        Rule(origin, "any other problem", _always, Fate.FAILED, Handed.REFUSAL),
    )


RULES: tuple[Rule, ...] = (
    Rule(Origin.API_SERVER, "408, 429, 502, 503, 504", _has_status(_LATER), Fate.HELD, Handed.NOTHING),
    # The SDK would replace the answer by a default value, and the task would go on with it.
    Rule(
        Origin.API_SERVER, "any other from 500", _is_failure, Fate.FAILED, Handed.REFUSAL, FAILURE_TRIES,
        Route.SECRET_READ,
    ),
    Rule(Origin.API_SERVER, "any other from 500", _is_failure, Fate.FAILED, Handed.ANSWER, FAILURE_TRIES),
    Rule(Origin.API_SERVER, "any other", _always, Fate.ANSWERED, Handed.ANSWER),
    *_of_ours(Origin.GATE),
    *_of_ours(Origin.RELAY),
    Rule(Origin.PROXY, "413, 414, 431", _has_status(TOO_LARGE_STATUSES), Fate.FAILED, Handed.REFUSAL),
    Rule(Origin.PROXY, "any other", _always, Fate.HELD, Handed.NOTHING),
    Rule(Origin.NOBODY, "no connection, no answer in time, or half an answer", _always, Fate.HELD, Handed.NOTHING),
)  # fmt: skip
"""The first row that fits decides."""


def rule_for(outcome: Outcome, route: Route) -> Rule:
    """The row for one outcome of a call."""
    origin = origin_of(outcome)
    return next(
        rule for rule in RULES if rule.origin is origin and rule.route in {None, route} and rule.matches(outcome)
    )


def origin_of(outcome: Outcome) -> Origin:
    """Who gave the answer."""
    if isinstance(outcome, ExecutionAnswer):
        return Origin.API_SERVER
    if isinstance(outcome, Refused):
        return Origin.GATE if outcome.origin == routes.GATE_ORIGIN else Origin.RELAY
    if isinstance(outcome, NoAnswer) and (outcome.status or outcome.proxy_status) is not None:
        return Origin.PROXY
    return Origin.NOBODY
