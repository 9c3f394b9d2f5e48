"""The commands. Exit status: 1 for a refusal, 2 for wrong options or settings, 3 if NATS does not answer."""

import asyncio
import getpass
import json
import socket
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from pydantic import TypeAdapter, ValidationError

from edge_bridge.output import others_to_stderr
from edge_bridge.policies.wanted import WrongPolicy, changed, editable, read_file
from edge_bridge.settings import SettingsError, broker_settings
from edge_broker.audit import Audit
from edge_broker.bucket import RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import KEEPER
from edge_broker.policies.access_store import AccessStore, days_back
from edge_broker.policies.policy_store import PolicyStore, StoredPolicy
from edge_schemas.admin.audit import Actor, ActorKind, TargetKind
from edge_schemas.admin.policies import LIST_DAYS
from edge_schemas.policies import suggest as suggestions
from edge_schemas.policies.accesses import AccessDay, add_all
from edge_schemas.policies.listing import access_lines, policy_lines
from edge_schemas.policies.policy import Policy, PolicyFile, PolicyTarget
from edge_schemas.wire.ids import OptionalReason, QueueName, SiteName

CONNECT_S = 10.0
REFUSED, WRONG, NO_ANSWER = 1, 2, 3
_QUEUE: TypeAdapter[str] = TypeAdapter(QueueName)
_SITE: TypeAdapter[str] = TypeAdapter(SiteName)
_REASON: TypeAdapter[str] = TypeAdapter(OptionalReason)

Command = Callable[[Broker, Namespace], Awaitable[str]]
"""Returns what is printed."""


class _Refused(Exception):
    """The command can't be carried out as things are; the text has the remedy."""


def show(args: Namespace) -> None:
    """`policy show`."""
    _run(args, _show if args.queue or args.site else _show_all)


def set(args: Namespace) -> None:  # noqa: A001  # the name of the command
    """`policy set`."""
    with _explained():
        given = None if args.file is None else read_file(args.file)
    _run(args, partial(_set, given))


def remove(args: Namespace) -> None:
    """`policy remove`."""
    _run(args, _remove)


def accesses(args: Namespace) -> None:
    """`policy accesses`."""
    _run(args, _accesses)


def suggest(args: Namespace) -> None:
    """`policy suggest`."""
    _run(args, _suggest)


async def _show(broker: Broker, args: Namespace) -> str:
    target = _target(args)
    policy = _readable(target, await PolicyStore(broker).get(target))
    if policy is None:
        raise _Refused(f"{target} has no policy: its jobs may use everything")
    if args.json:
        return policy.model_dump_json(indent=2)
    by = f"{target}: changed {policy.changed_at:%F %H:%M} UTC by {policy.changed_by}"
    return suggestions.as_toml(editable(policy), [f"{by}: {policy.reason}" if policy.reason else by])


async def _show_all(broker: Broker, args: Namespace) -> str:
    store = PolicyStore(broker)
    stored = [(target, _readable(target, await store.get(target))) for target in await store.targets()]
    policies = [(target, policy) for target, policy in stored if policy is not None]
    if not args.json:
        return "\n".join(policy_lines(policies))
    rows = [{"for": target.kind, "name": target.name, **policy.model_dump(mode="json")} for target, policy in policies]
    return json.dumps(rows, indent=2)


async def _set(given: PolicyFile | None, broker: Broker, args: Namespace) -> str:
    target, reason, store = _target(args), _reason(args), PolicyStore(broker)
    if given is None and args.mode is None and not args.allow and not args.drop:
        raise WrongPolicy("nothing to set: give --file, --mode, --allow or --drop")
    stored = await store.get(target)
    if given is None:  # a file also replaces a policy that can't be read
        before = _readable(target, stored)
        given = PolicyFile() if before is None else editable(before)
    wanted = changed(given, mode=args.mode, allow=args.allow or (), drop=args.drop or ())
    if args.dry_run:
        return suggestions.as_toml(wanted, [f"{target} (not changed: --dry-run)"])
    allow = {kind.value: patterns for kind, patterns in wanted.allow.items()}
    by = _actor().name
    policy = Policy(mode=wanted.mode, allow=allow, changed_at=datetime.now(UTC), changed_by=by, reason=reason)
    await store.put(target, policy, revision=stored.revision)
    await _audit(broker, target, reason, before=stored.policy, after=policy)
    return suggestions.as_toml(wanted, [str(target)])


async def _remove(broker: Broker, args: Namespace) -> str:
    target, reason, store = _target(args), _reason(args), PolicyStore(broker)
    stored = await store.get(target)
    if stored.policy is None and not stored.is_unreadable:
        raise _Refused(f"{target} has no policy")
    if args.dry_run:
        return f"{target} would have no policy (not changed: --dry-run)"
    await store.remove(target, revision=stored.revision)
    await _audit(broker, target, reason, before=stored.policy, after=None)
    return f"{target} has no policy; its jobs may use everything"


async def _accesses(broker: Broker, args: Namespace) -> str:
    since = days_back(datetime.now(UTC), _days(args))
    found, others = add_all(await AccessStore(broker).days(_target(args), since=since))
    if args.json:
        return AccessDay(accesses=tuple(found), others=tuple(others)).model_dump_json(indent=2, exclude={"batches"})
    return "\n".join(access_lines(found, others))


async def _suggest(broker: Broker, args: Namespace) -> str:
    target, since = _target(args), days_back(datetime.now(UTC), _days(args))
    found, others = add_all(await AccessStore(broker).days(target, since=since))
    policy = suggestions.suggest(found, group=args.group)
    lacking = suggestions.missing(policy, found, others)
    return suggestions.as_toml(policy, suggestions.comments(str(target), since, found, lacking))


async def _audit(
    broker: Broker, target: PolicyTarget, reason: str, *, before: Policy | None, after: Policy | None
) -> None:
    actor = _actor()
    audit, dump = Audit(broker, actor.name), partial(Policy.model_dump, mode="json", include={"mode", "allow"})
    await audit.record(
        "policy-removed" if after is None else "policy-set",
        TargetKind(target.kind),
        target.name,
        actor=actor,
        reason=reason or None,
        site=target.name if target.kind == "site" else None,
        queue=target.name if target.kind == "queue" else None,
        before=None if before is None else dump(before),
        after=None if after is None else dump(after),
    )
    if audit.unconfirmed:
        raise BrokerUnavailable(f"the policy of {target} was changed, but the audit has no event of it")


def _run(args: Namespace, command: Command) -> None:
    from airflow.configuration import conf

    with suppress(BrokenPipeError), others_to_stderr() as out, _explained():
        print(asyncio.run(_connected(broker_settings(conf, KEEPER), args, command)).rstrip(), file=out)


@contextmanager
def _explained() -> Iterator[None]:
    """Ends the process with the reason and its status if a command can't be carried out."""
    try:
        yield
    except (SettingsError, WrongPolicy) as error:
        sys.exit(_report(str(error), WRONG))
    except (_Refused, JetStreamError) as error:
        sys.exit(_report(str(error), REFUSED))
    except RevisionConflict:
        sys.exit(_report("another person changed the policy at the same moment: look at it and repeat", REFUSED))
    except BrokerUnavailable as error:
        sys.exit(_report(f"{error}. Is NATS up, and is this the keeper's password?", NO_ANSWER))


async def _connected(settings: BrokerSettings, args: Namespace, command: Command) -> str:
    async with Broker(settings) as broker:
        await broker.wait_connected(CONNECT_S)
        return await command(broker, args)


def _target(args: Namespace) -> PolicyTarget:
    if (args.queue is None) == (args.site is None):
        raise WrongPolicy("give either --queue or --site")
    try:
        if args.queue is not None:
            return PolicyTarget("queue", _QUEUE.validate_python(args.queue))
        return PolicyTarget("site", _SITE.validate_python(args.site))
    except ValidationError as error:
        name = "--site" if args.queue is None else "--queue"
        raise WrongPolicy(f"{name} {error.errors(include_input=False)[0]['msg']}") from None


def _readable(target: PolicyTarget, stored: StoredPolicy) -> Policy | None:
    if stored.is_unreadable:
        raise _Refused(f"this version can't read the policy of {target}: replace it with 'set --file', or 'remove' it")
    return stored.policy


def _reason(args: Namespace) -> str:
    try:
        return _REASON.validate_python(args.reason)
    except ValidationError as error:
        raise WrongPolicy(f"--reason {error.errors(include_input=False)[0]['msg']}") from None


def _days(args: Namespace) -> int:
    days: int = args.days
    if not 1 <= days <= LIST_DAYS:
        raise WrongPolicy(f"--days must be 1 to {LIST_DAYS}")
    return days


def _actor() -> Actor:
    """Who runs the command: the NATS user is the same for everybody."""
    return Actor(kind=ActorKind.OPERATOR, name=f"{getpass.getuser()}@{socket.gethostname()}", by="command line")


def _report(text: str, status: int) -> int:
    print(f"airflow edge-relay policy: {text}", file=sys.stderr)
    return status
