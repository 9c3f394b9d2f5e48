"""A policy: which names the jobs of a queue, or of a site's workers, may use through the Execution API."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from edge_schemas.policies.patterns import NamePattern, is_match
from edge_schemas.wire.base import Inbound, Instant, Outbound
from edge_schemas.wire.ids import encode_name

MAX_PATTERNS = 200
"""Of one kind."""


class PolicyMode(StrEnum):
    """What a policy does."""

    OFF = "off"
    LOG = "log"
    """It changes nothing, but the list of accesses shows what it would deny."""
    ENFORCE = "enforce"


class AccessKind(StrEnum):
    """What a call of a job uses. Each has a name that patterns are compared with."""

    CONNECTION = "connection"
    VARIABLE = "variable"
    XCOM = "xcom"
    """A read of an XCom of another DAG; its name is that DAG's id."""
    SET_VARIABLE = "set_variable"
    DELETE_VARIABLE = "delete_variable"
    TRIGGER_DAG_RUN = "trigger_dag_run"
    """Its name is the id of the triggered DAG."""
    CLEAR_DAG_RUN = "clear_dag_run"
    """Its name is the id of the DAG."""
    ASSET_EVENT = "asset_event"
    """An event that a successful task reports; its name is the asset's, or its URI if the call has no name."""
    ASSET_STORE = "asset_store"
    """A read or a change of the values that are stored with an asset; its name as for an event."""
    ASK = "ask"
    """A question to a person, or its answer; its name is the id of the task's own DAG."""


@dataclass(frozen=True, slots=True, order=True)
class PolicyTarget:
    """What a policy is set for, and accesses are counted for.

    Attributes:
        name: Of a queue as Airflow writes it, whatever team its jobs belong to; or of a site.
    """

    kind: Literal["queue", "site"]
    name: str

    @property
    def key(self) -> str:
        """In `edge_policies`; the key in `edge_accesses` begins with it."""
        return f"{self.kind}.{encode_name(self.name)}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


Allowed = dict[AccessKind, Annotated[tuple[NamePattern, ...], Field(max_length=MAX_PATTERNS)]]


class PolicyFile(Inbound):
    """A policy as people write it. What it does not allow is denied, also a kind that it does not name."""

    mode: PolicyMode = PolicyMode.LOG
    allow: Allowed = Field(default_factory=dict)


class Policy(Outbound):
    """A policy as it is stored.

    Attributes:
        allow: Patterns by `AccessKind`; kinds of a later version may be among them.
        changed_by: The user of the operating system, and the machine.
    """

    mode: PolicyMode
    allow: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    changed_at: Instant
    changed_by: str
    reason: str = ""

    def allows(self, kind: AccessKind, name: str) -> bool:
        """Whether one of its patterns matches, whatever its mode."""
        return any(is_match(pattern, name) for pattern in self.allow.get(kind, ()))
