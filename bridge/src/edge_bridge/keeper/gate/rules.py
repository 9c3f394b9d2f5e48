"""Which calls of the Execution API a job may make: a closed list of methods and paths, and the ids in them.

Pure. Airflow allows any execution token to write any XCom; here a job writes only those of its own task instance. An
auxiliary job has a few reads or two paths of its own, and neither `/run` nor `/state`. Which connections and variables
a job may use is policy, not protocol, and is decided in `keeper.policy`. How each kind of call is answered: see
`call_kinds`.

Keys are free text: a path is matched by its decoded segments, as Airflow's router does it. `execution_paths` describes
why the api-server gets exactly these segments.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import parse_qsl

from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import AuxiliaryJob, AuxiliaryKind, TaskIdentity

_QUERY = re.compile(r"^[!$-;=?-~]*$")
"""Visible ASCII without the characters that begin a fragment or must be encoded: `"`, `#`, `<`, `>`."""


class CallKind(Enum):
    """What the gate has to do for a call in addition to forwarding it."""

    READ = auto()
    HEARTBEAT = auto()
    RUN = auto()
    """The start of a task."""
    STATE = auto()
    """The final state of a task."""
    WRITE = auto()
    """A write that Airflow carries out again, and answers in the same way, if it is repeated."""
    XCOM = auto()
    """An XCom. Airflow rejects it while an earlier try is being carried out."""
    TRIGGER = auto()
    """The trigger of a DAG run. Airflow rejects the second one."""
    CLEAR = auto()
    """The clear of a DAG run. The second one would end what has begun since."""
    ASK = auto()
    """A question to a person. The second one would remove an answer that was given since."""
    RESPOND = auto()
    """The answer to such a question. Airflow rejects the second one."""
    FETCH = auto()
    """A read that Airflow answers once, since it changes Airflow's state: the connection of a connection test."""
    RESULT = auto()
    """The result of a connection test. Airflow rejects the second one."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A path of the Execution API.

    Attributes:
        methods: Allowed on it.
        path: Segments: a literal, `*` (any that is not empty), `**` (any further text, also none, with any slashes),
            `{ti} {dag} {run} {task}` or `{auxiliary job}` (the job's own id).
        kind: Of the call; None means by its method.
        own_map_index: The query must name the job's own map index; without one it must name none.
    """

    methods: frozenset[str]
    path: tuple[str, ...]
    kind: CallKind | None = None
    own_map_index: bool = False

    def kind_of(self, method: str) -> CallKind:
        """The kind of a call with this method."""
        return self.kind or (CallKind.READ if method in {"GET", "HEAD"} else CallKind.WRITE)


def _rule(methods: str, path: str, kind: CallKind | None = None, *, own_map_index: bool = False) -> Rule:
    return Rule(frozenset(methods.split()), tuple(path.split("/")), kind, own_map_index)


TASK_RULES = (
    _rule("PATCH", "task-instances/{ti}/run", CallKind.RUN),
    _rule("PATCH", "task-instances/{ti}/state", CallKind.STATE),
    _rule("PUT", "task-instances/{ti}/heartbeat", CallKind.HEARTBEAT),
    _rule("PUT", "task-instances/{ti}/rtif"),
    _rule("PATCH", "task-instances/{ti}/skip-downstream"),
    _rule("PATCH", "task-instances/{ti}/rendered-map-index"),
    _rule("GET", "task-instances/{ti}/previous-successful-dagrun"),
    _rule("GET", "task-instances/{ti}/validate-inlets-and-outlets"),
    _rule("GET", "task-instances/count"),
    _rule("GET", "task-instances/states"),
    _rule("GET", "task-instances/breadcrumbs"),
    _rule("GET", "task-instances/previous/*/*"),
    _rule("GET", "task-reschedules/{ti}/start_date"),
    _rule("GET PUT DELETE", "store/ti/{ti}/**"),
    _rule("DELETE", "store/ti/{ti}"),
    _rule("GET PUT DELETE", "store/asset/by-name/value"),
    _rule("GET PUT DELETE", "store/asset/by-uri/value"),
    _rule("DELETE", "store/asset/by-name/clear"),
    _rule("DELETE", "store/asset/by-uri/clear"),
    _rule("GET", "hitlDetails/{ti}"),
    _rule("POST", "hitlDetails/{ti}", CallKind.ASK),
    _rule("PATCH", "hitlDetails/{ti}", CallKind.RESPOND),
    _rule("GET", "connections/*"),
    _rule("GET PUT DELETE", "variables/**"),
    _rule("POST", "xcoms/{dag}/{run}/{task}/**", CallKind.XCOM, own_map_index=True),
    _rule("DELETE", "xcoms/{dag}/{run}/{task}/**", own_map_index=True),
    _rule("GET HEAD", "xcoms/*/*/*/**"),
    _rule("GET", "dag-runs/count"),
    _rule("GET", "dag-runs/previous"),
    _rule("GET", "dag-runs/*/*"),
    _rule("POST", "dag-runs/*/*", CallKind.TRIGGER),
    _rule("GET", "dag-runs/*/*/state"),
    _rule("POST", "dag-runs/*/*/clear", CallKind.CLEAR),
    _rule("GET", "dags/*"),
    _rule("GET", "assets/by-name"),
    _rule("GET", "assets/by-uri"),
    _rule("GET", "assets/by-alias"),
    _rule("GET", "asset-events/by-asset"),
    _rule("GET", "asset-events/by-asset-alias"),
    _rule("GET", "health"),
    _rule("GET", "health/ping"),
)
AUXILIARY_RULES = {
    # The callback's process can ask its supervisor for nothing else. The upload of its logs needs a connection too.
    AuxiliaryKind.CALLBACK: (_rule("GET", "connections/*"), _rule("GET", "variables/**")),
    AuxiliaryKind.CONNECTION_TEST: (
        _rule("GET", "connection-tests/{auxiliary job}/connection", CallKind.FETCH),
        _rule("PATCH", "connection-tests/{auxiliary job}", CallKind.RESULT),
    ),
}
_SHAPES = frozenset(
    tuple("*" if segment.startswith("{") else segment for segment in rule.path)
    for rules in (TASK_RULES, *AUXILIARY_RULES.values())
    for rule in rules
)
"""Every path of the Execution API, whatever ids it names."""


def check(method: str, segments: Sequence[str], query: str, owner: TaskIdentity | AuxiliaryJob) -> CallKind | None:
    """The kind of a call, if this task instance or auxiliary job may make it; None if Airflow has no such path.

    Args:
        method: In upper case.
        segments: From `split_path`.
        query: Raw, without the question mark.
        owner: The task instance or auxiliary job that the call is made for.

    Raises:
        EdgeError: `forbidden` if the call is not on the list or names another job's ids; `invalid_request` if
            two servers could read the query differently.
    """
    if not _QUERY.match(query):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the query holds characters that must be percent-encoded")
    if any("\n" in segment for segment in segments):
        # Airflow's router matches no path with a line break, except after a slash too many, where it drops it.
        return None
    rules = AUXILIARY_RULES[owner.kind] if isinstance(owner, AuxiliaryJob) else TASK_RULES
    own = _own(owner)
    for rule in rules:
        if method in rule.methods and _matches(rule.path, segments, own):
            if rule.own_map_index and not _names_own_map_index(query, owner):
                raise EdgeError(ErrorCode.FORBIDDEN, "a job writes XComs of its own map index only")
            return rule.kind_of(method)
    if any(_matches(shape, segments, {}) for shape in _SHAPES):
        raise EdgeError(ErrorCode.FORBIDDEN, f"a job may not call {method} on this path of the Execution API")
    return None


def _own(owner: TaskIdentity | AuxiliaryJob) -> dict[str, str]:
    if isinstance(owner, AuxiliaryJob):
        return {"{auxiliary job}": owner.id}
    return {"{ti}": owner.ti_id, "{dag}": owner.dag_id, "{run}": owner.run_id, "{task}": owner.task_id}


def _matches(pattern: Sequence[str], path: Sequence[str], own: dict[str, str]) -> bool:
    if pattern[-1] == "**":
        pattern, path = pattern[:-1], path[: len(pattern) - 1] if len(path) >= len(pattern) else ()
    return len(pattern) == len(path) and all(
        found != "" if wanted == "*" else own.get(wanted, wanted) == found
        for wanted, found in zip(pattern, path, strict=True)
    )


def _names_own_map_index(query: str, owner: TaskIdentity | AuxiliaryJob) -> bool:
    own = -1 if isinstance(owner, AuxiliaryJob) else owner.map_index
    named = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == "map_index"]
    return all(value == str(own) for value in named) if named else own == -1
