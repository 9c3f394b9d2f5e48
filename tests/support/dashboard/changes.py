"""What actions do to the fake fleet."""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from edge_schemas.admin.access import Role
from edge_schemas.admin.actions import (
    ActionFailure,
    ActionResult,
    JobActionRequest,
    QueueActionRequest,
    SiteActionRequest,
    WorkerActionRequest,
)
from edge_schemas.admin.audit import TargetKind
from edge_schemas.admin.desired import AvailabilityOrder
from edge_schemas.admin.rows import WorkerRow
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import WorkerState
from support.dashboard.fleet import AVAILABLE_STATES, ORDERED, Fleet, now

ADMIN_ONLY = {"rotate", "revoke", "remove", "set"}


class FleetActions:
    """Acts on a fleet, as the relay would."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def act(self, request: BaseModel, role: Role) -> ActionResult:
        """Carry an action out; a dry run changes nothing."""
        assert isinstance(request, WorkerActionRequest | SiteActionRequest | QueueActionRequest | JobActionRequest)
        if request.action.do in ADMIN_ONLY and not role.includes(Role.ADMIN):
            raise EdgeError(ErrorCode.FORBIDDEN, "this needs the role admin")
        if isinstance(request, WorkerActionRequest):
            return self._on_workers(request)
        if isinstance(request, SiteActionRequest):
            return self._on_sites(request)
        if isinstance(request, QueueActionRequest):
            return self._on_queues(request)
        return self._on_jobs(request)

    def matching_workers(self, where: Mapping[str, object]) -> list[WorkerRow]:
        """The workers that a filter selects."""
        return [row for row in self._fleet.workers.values() if _selects(where, row)]

    def _on_workers(self, request: WorkerActionRequest) -> ActionResult:
        names: Iterable[str] = request.workers or ()
        if request.all:
            names = [row.worker for row in self._fleet.workers.values()]
        elif request.where is not None:
            names = [row.worker for row in self.matching_workers(request.where.model_dump(exclude_none=True))]
        changed, unchanged, failures = [], 0, []
        for name in names:
            row = self._fleet.workers.get(name)
            if row is None:
                failures.append(ActionFailure(target=name, code="not_found", detail=f"there is no worker {name}"))
                continue
            if row.state is WorkerState.REVOKED and request.action.do not in {"remove", "revoke"}:
                detail = "its credential was revoked: it must enrol again"
                failures.append(ActionFailure(target=name, code="wrong_state", detail=detail))
                continue
            update = self._worker_update(row, request)
            if not any(getattr(row, key) != value for key, value in update.items()) and request.action.do != "remove":
                unchanged += 1
                continue
            changed.append(name)
            if not request.dry_run:
                self._change_worker(name, request, update)
        return _result(request.dry_run, changed, unchanged, failures)

    def _change_worker(self, name: str, request: WorkerActionRequest, update: dict[str, object]) -> None:
        if request.action.do == "remove":
            del self._fleet.workers[name]
        else:
            version = self._fleet.workers[name].settings_version + 1
            self._fleet.change_worker(name, **update | {"settings_version": version})
        self._fleet.record(f"worker-{request.action.do}", TargetKind.WORKER, name, reason=request.reason)

    def _worker_update(self, row: WorkerRow, request: WorkerActionRequest) -> dict[str, object]:
        action = request.action
        match action.do:
            case "pause" | "drain" | "stop":
                if row.state is AVAILABLE_STATES[action.do] and row.order:
                    return {}
                order = AvailabilityOrder(
                    availability=ORDERED[action.do], reason=request.reason, by="anna", since=now(), until=action.until
                )
                return {"state": AVAILABLE_STATES[action.do], "order": order}
            case "resume":
                return {"state": WorkerState.ONLINE, "order": None} if row.order else {}
            case "set-queues":
                kept = action.queues or row.queues
                queues = tuple(name for name in dict.fromkeys((*kept, *action.add)) if name not in action.remove)
                return {"queues": queues}
            case "set-slots":
                return {"slots": action.slots if action.slots is not None else 4}
            case "set-labels":
                left = {key: value for key, value in row.labels.items() if key not in action.remove}
                return {"labels": left | action.set}
            case "revoke":
                return {"state": WorkerState.REVOKED}
            case "resolve":
                return {"state": WorkerState.ONLINE, "conflict": ()}
            case _:
                return {"settings_version": row.settings_version + 1}  # a rotation

    def _on_sites(self, request: SiteActionRequest) -> ActionResult:
        for name in request.sites if not request.dry_run else ():
            if request.action.do == "resume":
                self._fleet.site_orders.pop(name, None)
            else:
                self._fleet.site_orders[name] = AvailabilityOrder(
                    availability=ORDERED[request.action.do], reason=request.reason, by="anna", since=now()
                )
            self._fleet.record(f"site-{request.action.do}", TargetKind.SITE, name, reason=request.reason)
        return _result(request.dry_run, list(request.sites), 0, [])

    def _on_queues(self, request: QueueActionRequest) -> ActionResult:
        for target in request.queues if not request.dry_run else ():
            row = self._fleet.queues[target.queue]
            action = request.action
            changes: dict[str, object] = {"order": None}
            if action.do == "pause":
                changes["order"] = AvailabilityOrder(
                    availability=ORDERED["pause"], reason=request.reason, by="anna", since=now(), until=action.until
                )
            elif action.do == "set":
                changes = action.model_dump(exclude={"do"}, exclude_unset=True)
            settings = row.settings.model_copy(update=changes)
            self._fleet.queues[target.queue] = row.model_copy(update={"settings": settings})
            self._fleet.record(f"queue-{action.do}", TargetKind.QUEUE, target.queue, reason=request.reason)
        return _result(request.dry_run, [target.queue for target in request.queues], 0, [])

    def _on_jobs(self, request: JobActionRequest) -> ActionResult:
        names: Iterable[str] = request.jobs or ()
        if request.where is not None:
            where = request.where.model_dump(exclude_none=True, exclude={"parked"})
            found = [row for row in self._fleet.jobs.values() if _selects(where, row)]
            names = [
                row.job for row in found if request.where.parked is None or bool(row.parked) is request.where.parked
            ]
        changed = [name for name in names if self._fleet.jobs[name].state is not JobState.ENDED]
        for name in changed if not request.dry_run else ():
            row = self._fleet.jobs[name]
            update: dict[str, object] = {"parked": None, "releases": 0}
            if request.action.do != "redrive":
                ended = {"state": JobState.ENDED, "verdict": Verdict.CANCELLED, "ended_at": now()}
                update |= ended | {"reason": request.reason, "waits_since": None}
            self._fleet.jobs[name] = row.model_copy(update=update)
            self._fleet.record(f"job-{request.action.do}", TargetKind.JOB, name, reason=request.reason)
        return _result(request.dry_run, changed, 0, [])


def _selects(where: Mapping[str, object], row: BaseModel) -> bool:
    for key, wanted in where.items():
        if key == "queue" and isinstance(row, WorkerRow):
            if wanted not in row.queues:
                return False
        elif key == "text":
            if (
                str(wanted)
                not in f"{getattr(row, 'worker', '')} {getattr(row, 'site', '')} {getattr(row, 'hostname', '')}"
            ):
                return False
        elif key in type(row).model_fields and str(getattr(row, key)) != str(wanted):
            return False
    return True


def _result(dry_run: bool, changed: list[str], unchanged: int, failures: list[ActionFailure]) -> ActionResult:
    return ActionResult(
        changed=tuple(changed[:1000]),
        changed_count=len(changed),
        unchanged_count=unchanged,
        failures=tuple(failures),
        failure_count=len(failures),
        dry_run=dry_run,
    )
