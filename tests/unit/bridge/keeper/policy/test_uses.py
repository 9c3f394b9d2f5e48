"""What a call uses, for every rule of the gate."""

import json

import pytest

from edge_bridge.keeper.gate.rules import AUXILIARY_RULES, TASK_RULES, Rule
from edge_bridge.keeper.policy.uses import Use, uses
from edge_schemas.policies.policy import AccessKind
from edge_schemas.wire.errors import EdgeError
from edge_schemas.wire.jobs import AuxiliaryKind, TaskIdentity

TASK = TaskIdentity(ti_id="00000000-0000-0000-0000-000000000001", dag_id="own", run_id="r", task_id="t", try_number=1)
POLICED = {
    "GET connections/*": AccessKind.CONNECTION,
    "GET variables/**": AccessKind.VARIABLE,
    "PUT variables/**": AccessKind.SET_VARIABLE,
    "DELETE variables/**": AccessKind.DELETE_VARIABLE,
    "GET xcoms/*/*/*/**": AccessKind.XCOM,
    "HEAD xcoms/*/*/*/**": AccessKind.XCOM,
    "POST dag-runs/*/*": AccessKind.TRIGGER_DAG_RUN,
    "POST dag-runs/*/*/clear": AccessKind.CLEAR_DAG_RUN,
    "PATCH task-instances/{ti}/state": AccessKind.ASSET_EVENT,
    "POST hitlDetails/{ti}": AccessKind.ASK,
    "PATCH hitlDetails/{ti}": AccessKind.ASK,
    **{
        f"{method} store/asset/{by}/value": AccessKind.ASSET_STORE
        for method in ("GET", "PUT", "DELETE")
        for by in ("by-name", "by-uri")
    },
    "DELETE store/asset/by-name/clear": AccessKind.ASSET_STORE,
    "DELETE store/asset/by-uri/clear": AccessKind.ASSET_STORE,
}
FREE = {
    # The job's own task instance.
    "PATCH task-instances/{ti}/run",
    "PUT task-instances/{ti}/heartbeat",
    "PUT task-instances/{ti}/rtif",
    "PATCH task-instances/{ti}/skip-downstream",
    "PATCH task-instances/{ti}/rendered-map-index",
    "GET task-instances/{ti}/previous-successful-dagrun",
    "GET task-instances/{ti}/validate-inlets-and-outlets",
    "GET task-reschedules/{ti}/start_date",
    "GET store/ti/{ti}/**",
    "PUT store/ti/{ti}/**",
    "DELETE store/ti/{ti}/**",
    "DELETE store/ti/{ti}",
    "GET hitlDetails/{ti}",
    "POST xcoms/{dag}/{run}/{task}/**",
    "DELETE xcoms/{dag}/{run}/{task}/**",
    # States and names, no values that user code has stored.
    "GET task-instances/count",
    "GET task-instances/states",
    "GET task-instances/breadcrumbs",
    "GET task-instances/previous/*/*",
    "GET dag-runs/count",
    "GET dag-runs/previous",
    "GET dag-runs/*/*",
    "GET dag-runs/*/*/state",
    "GET dags/*",
    "GET assets/by-name",
    "GET assets/by-uri",
    "GET assets/by-alias",
    "GET asset-events/by-asset",
    "GET asset-events/by-asset-alias",
    "GET health",
    "GET health/ping",
}


def of(path: str, method: str = "GET", query: str = "", body: object = None) -> tuple[Use, ...]:
    return uses(method, path.split("/"), query, b"" if body is None else json.dumps(body).encode(), TASK.dag_id)


def test_each_rule_of_the_gate_has_a_kind_or_is_free() -> None:
    """A new rule fails here until somebody has decided whether a policy is about it."""
    kinds = {f"{method} {'/'.join(rule.path)}": _kind(method, rule) for rule in TASK_RULES for method in rule.methods}
    assert {call: kind for call, kind in kinds.items() if kind is not None} == POLICED
    assert kinds.keys() - POLICED.keys() == FREE


def _kind(method: str, rule: Rule) -> AccessKind | None:
    own = {"{ti}": TASK.ti_id, "{dag}": TASK.dag_id, "{run}": TASK.run_id, "{task}": TASK.task_id}
    segments = [own.get(segment, "foreign" if segment in {"*", "**"} else segment) for segment in rule.path]
    body = json.dumps({"state": "success", "task_outlets": [{"name": "a", "uri": "b", "type": "Asset"}]}).encode()
    found = uses(method, segments, "name=n&uri=u&key=k", body, TASK.dag_id)
    return found[0].kind if found else None


def test_auxiliary_jobs_use_connections_and_variables() -> None:
    for rule in AUXILIARY_RULES[AuxiliaryKind.CALLBACK]:
        assert uses("GET", [*rule.path[:1], "x"], "", b"", None)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("connections/a", Use(AccessKind.CONNECTION, "a")),
        ("variables/a/b", Use(AccessKind.VARIABLE, "a/b")),
        ("variables/", Use(AccessKind.VARIABLE, "")),
        ("variables//a/../b", Use(AccessKind.VARIABLE, "/a/../b")),
        ("xcoms/other/r/t/k", Use(AccessKind.XCOM, "other")),
        ("xcoms/Own/r/t/k", Use(AccessKind.XCOM, "Own")),
    ],
)
def test_names_are_those_of_the_decoded_path(path: str, expected: Use) -> None:
    assert of(path) == (expected,)


def test_xcoms_of_the_own_dag_need_no_policy() -> None:
    assert of("xcoms/own/another-run/t/k", query="include_prior_dates=true") == ()


@pytest.mark.parametrize(
    ("outlet", "names"),
    [
        ({"type": "Asset", "name": "a", "uri": "u"}, ["a"]),
        ({"type": "AssetNameRef", "name": "a", "uri": "other"}, ["a"]),
        ({"type": "AssetUriRef", "name": "allowed", "uri": "u"}, ["u"]),
        ({"type": "AssetAlias", "name": "alias"}, ["alias"]),
        ({"type": "of a later version", "name": "a", "uri": "u"}, ["a", "u"]),
    ],
)
def test_an_asset_is_named_by_what_airflow_finds_it_by(outlet: dict[str, str], names: list[str]) -> None:
    body = {"state": "success", "task_outlets": [outlet], "outlet_events": []}
    assert [use.name for use in of("task-instances/x/state", "PATCH", body=body)] == names


def test_events_behind_an_alias_count() -> None:
    event = {"dest_asset_key": {"name": "a", "uri": "u"}, "source_alias_name": "alias", "extra": {}}
    body = {"state": "success", "task_outlets": [], "outlet_events": [event, event]}
    assert of("task-instances/x/state", "PATCH", body=body) == (Use(AccessKind.ASSET_EVENT, "a"),)
    assert of("task-instances/x/state", "PATCH", body={**body, "state": "failed"}) == ()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b'{"state":"success","task_outlets":[{"name":5}]}', b'{"state":"success","task_outlets":5}'],
)
def test_a_body_that_can_t_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(EdgeError, match="malformed"):
        uses("PATCH", ["task-instances", "x", "state"], "", body, TASK.dag_id)


def test_an_asset_that_is_named_twice_is_refused() -> None:
    with pytest.raises(EdgeError, match="twice"):
        of("store/asset/by-name/value", query="name=allowed&key=k&name=other")
    assert of("store/asset/by-uri/value", query="uri=s3%3A%2F%2Fb&name=x") == (Use(AccessKind.ASSET_STORE, "s3://b"),)


def test_a_deferral_uses_the_class_of_its_trigger() -> None:
    path = ["task-instances", TASK.ti_id, "state"]
    body = {"state": "deferred", "classpath": "package.Trigger", "trigger_kwargs": {"conn_id": "any"}}
    assert uses("PATCH", path, "", json.dumps(body).encode(), None) == (Use(AccessKind.DEFER, "package.Trigger"),)
    # Airflow refuses these; a policy that enforces does, too.
    for nameless in ('{"state": "deferred"}', '{"state": "deferred", "classpath": null}'):
        assert uses("PATCH", path, "", nameless.encode(), None) == (Use(AccessKind.DEFER, ""),)
