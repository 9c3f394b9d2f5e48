"""The page `docs/reference/fates-of-calls.md`, from the table by which the worker's local gateway decides."""

from collections.abc import Mapping
from types import MappingProxyType

from edge_worker.gateway.fates import RULES, Fate, Origin, Route

_ORIGINS: Mapping[Origin, str] = MappingProxyType(
    {
        Origin.API_SERVER: "Airflow's api-server",
        Origin.GATE: "the gate",
        Origin.RELAY: "the relay",
        Origin.PROXY: "something between worker and relay",
        Origin.NOBODY: "nobody",
    }
)
_ROUTES: Mapping[Route, tuple[str, str]] = MappingProxyType(
    {
        Route.FINAL_STATE: ("`PATCH task-instances/{own}/state`", "no stop of the job ends the wait"),
        Route.RENDERED_FIELDS: (
            "`PUT task-instances/{own}/rtif`",
            "the task does not wait: after 1 s it gets Airflow's usual answer, and its next write waits instead",
        ),
        Route.WRITE: ("all other writes, `/run` too", "it ends when the job is to stop, or its processes are gone"),
        Route.SECRET_READ: ("reads of `connections/` and `variables/`", "as for other writes"),
        Route.READ: ("all other reads", "as for other writes"),
    }
)
_HEAD = """# Fates of calls

Each call of a task to Airflow's Execution API has exactly one of three fates:

* **answered**: the task gets the answer.
* **held**: a part of the way is down. The call is repeated, under one request id, until there is an answer.
* **fails** for good: a repeat would not change the answer. The task gets an error, and its own log has the reason.

The worker's local gateway decides by this table; the first row that fits counts. The page is made from the code.

| answer from | answer | route | fate | the task gets |
|---|---|---|---|---|
"""
_AFTER_RULES = """
The header `Edge-Origin` shows who gave an answer: `execution-api` for the api-server, or the gate on its behalf, `gate`
for a problem of the gate. A problem without the header is the relay's. Anything else is from something in between.

**A failure of the api-server** (5xx) is its own answer if it is JSON or plain text, and not 502, 503 or 504. The call
is tried five times within 8 to 15 s, as Airflow's own client does by default; the SDK does not repeat it. While the
keeper cannot reach Airflow's database either, the gate answers `gate_unavailable` instead: then it is an outage.

**A call that a [policy](../howto/need-to-know.md) denies** is a problem of the gate with the code `policy_denied`. It
fails for good, also a read of something that does not exist: a task never continues with a default value instead. A
call that the gate can't judge yet, because it has not read the policies, is `gate_unavailable`, and held.

**A server in front of the api-server**, such as a load balancer, is recognised by HTML, or by 502, 503 or 504.
Its 413, 414 and 431 become `payload_too_large`, its other 4xx `forbidden`. Its 401, 404, 407, 408, 429, 5xx and pages
with status 200 become `gate_unavailable`.

**The local gateway** refuses for good what is too large, too long or malformed, with 403 and the limit. It answers
heartbeats of the job's own task itself.

## By route

| route | calls | while it is held |
|---|---|---|
"""
_END = """
A call that is held for longer than 30 s is reported in the task's own log: what the task waits for, since when, and how
the wait ended. If the reason changes, there is a further line, each after twice the time of the one before.
"""


def page() -> str:
    """The page's text."""
    rules = "".join(
        f"| {_ORIGINS[rule.origin]} | {rule.answer} | {rule.route or 'any'} | {_fate(rule.fate, rule.tries)} "
        f"| {rule.handed} |\n"
        for rule in RULES
    )
    routes = "".join(f"| {route} | {_ROUTES[route][0]} | {_ROUTES[route][1]} |\n" for route in Route)
    return f"{_HEAD}{rules}{_AFTER_RULES}{routes}{_END}"


def _fate(fate: Fate, tries: int) -> str:
    return fate.value if tries == 1 else f"{fate.value} if given {tries} times"
