"""What a call uses, by kind and name. Pure; the call is one that `gate.rules` allows.

The names are those of the decoded path, which the api-server gets: see `execution_paths`. What is missing here, such as
a job's own XComs, needs no policy: the rules of the gate are enough. A connection test has the connection in itself.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict

from edge_schemas.policies.policy import AccessKind
from edge_schemas.wire.errors import EdgeError, ErrorCode

_OF_VARIABLE = {
    "GET": AccessKind.VARIABLE,
    "PUT": AccessKind.SET_VARIABLE,
    "DELETE": AccessKind.DELETE_VARIABLE,
}
_ASSET_PARAMETER = {"by-name": "name", "by-uri": "uri"}
_NAMED = frozenset({"Asset", "AssetNameRef", "AssetAlias"})


@dataclass(frozen=True, slots=True)
class Use:
    """One thing that a call uses."""

    kind: AccessKind
    name: str


class _Asset(BaseModel):
    """An asset as the last call of a task names it."""

    model_config = ConfigDict(extra="ignore")

    name: str | None = None
    uri: str | None = None
    type: str = "Asset"

    @property
    def names(self) -> list[str]:
        """What Airflow finds it by: active assets have different names, and different URIs."""
        if self.type in _NAMED:
            return [self.name or self.uri or ""]
        return [self.uri or ""] if self.type == "AssetUriRef" else [self.name or "", self.uri or ""]


class _OutletEvent(BaseModel):
    """An event that user code has added, perhaps for an asset behind an alias."""

    model_config = ConfigDict(extra="ignore")

    dest_asset_key: _Asset


class _Success(BaseModel):
    """What is read of a successful task's last call."""

    model_config = ConfigDict(extra="ignore")

    task_outlets: tuple[_Asset, ...] | None = None
    outlet_events: tuple[_OutletEvent, ...] | None = None


def uses(method: str, segments: Sequence[str], query: str, body: bytes, own_dag: str | None) -> tuple[Use, ...]:
    """What a call uses; empty if no policy is about it.

    Args:
        method: In upper case.
        segments: Of the path, decoded.
        query: Raw.
        body: Of the call.
        own_dag: Of the task that calls; None for an auxiliary job.

    Raises:
        EdgeError: `invalid_request`: the call names an asset twice, or its body can't be read.
    """
    match segments:
        case ["connections", name]:
            return (Use(AccessKind.CONNECTION, name),)
        case ["variables", *key]:
            return (Use(_OF_VARIABLE[method], "/".join(key)),)
        case ["store", "asset", by, _]:
            return (Use(AccessKind.ASSET_STORE, _parameter(query, _ASSET_PARAMETER[by])),)
        case ["xcoms", dag, *_] if method in {"GET", "HEAD"} and dag != own_dag:
            return (Use(AccessKind.XCOM, dag),)
        case ["dag-runs", dag, _] if method == "POST":
            return (Use(AccessKind.TRIGGER_DAG_RUN, dag),)
        case ["dag-runs", dag, _, "clear"]:
            return (Use(AccessKind.CLEAR_DAG_RUN, dag),)
        case ["hitlDetails", _] if method != "GET":
            return (Use(AccessKind.ASK, own_dag or ""),)
        case ["task-instances", _, "state"]:
            return _of_final_state(body)
        case _:
            return ()


def _of_final_state(body: bytes) -> tuple[Use, ...]:
    """What the last call of a task uses: events of assets, or a trigger, which Airflow runs at the centre."""
    try:
        content = json.loads(body)  # as Airflow's server does, also with a key that is there twice
        if isinstance(content, dict) and content.get("state") == "deferred":
            trigger = content.get("classpath")  # Airflow refuses a deferral without one
            return (Use(AccessKind.DEFER, trigger if isinstance(trigger, str) else ""),)
        if not isinstance(content, dict) or content.get("state") != "success":
            return ()
        success = _Success.model_validate(content)
    except (ValueError, RecursionError):  # a ValidationError is a ValueError
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the body names no state, or its assets are malformed") from None
    assets = (*(success.task_outlets or ()), *(event.dest_asset_key for event in success.outlet_events or ()))
    return tuple(Use(AccessKind.ASSET_EVENT, name) for name in dict.fromkeys(n for one in assets for n in one.names))


def _parameter(query: str, name: str) -> str:
    found = [value for key, value in parse_qsl(query, keep_blank_values=True) if key == name]
    if len(found) > 1:
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"the query names {name} twice")
    return found[0] if found else ""
