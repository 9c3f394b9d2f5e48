"""Builds the parts of the agent and runs their loops in one TaskGroup."""

import asyncio
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from edge_schemas.wire.ids import task_hostname
from edge_schemas.wire.workers import Enrollment
from edge_worker.agent.draining import Draining
from edge_worker.agent.link_probe import LinkProbe
from edge_worker.agent.orders import Orders
from edge_worker.agent.poll_answers import PollHandler
from edge_worker.agent.poll_loop import PollLoop, Report
from edge_worker.agent.poll_timeout import PollTimeoutTuner
from edge_worker.agent.runtime_watch import RuntimeWatch
from edge_worker.agent.secret_rotation import SecretRotation
from edge_worker.agent.shutdown import Shutdown, ShutdownStage
from edge_worker.bundles.provider import Bundles, bundle_store
from edge_worker.control.agent_control import AgentControl, AgentFacts
from edge_worker.control.own_pause import OwnIntake, OwnPauseFile
from edge_worker.control.protocol import SOCKET_NAME
from edge_worker.environment import proxy_environment, task_environment
from edge_worker.environments.provider import environments_of
from edge_worker.gateway.gateway import Gateway
from edge_worker.host_client.client import TaskHost
from edge_worker.host_client.command_host import CommandHost
from edge_worker.host_client.command_rules import CommandRules
from edge_worker.host_client.hosts import Hosts, Runtime
from edge_worker.jobs.compatibility import RuntimeCompatibility
from edge_worker.jobs.driver import Performer
from edge_worker.jobs.lease import Fence, Lease
from edge_worker.jobs.perform import ActionPerformer
from edge_worker.jobs.process_actions import ProcessActions
from edge_worker.jobs.registry import JobRegistry
from edge_worker.jobs.relay_actions import RelayActions
from edge_worker.jobs.runner import JobRunner
from edge_worker.log import EventLog, bound
from edge_worker.logs.upload_loop import LogUploader
from edge_worker.machine.clock_watch import ClockWatch
from edge_worker.machine.disk_watch import DiskWatch
from edge_worker.machine.failing_starts import FailingStarts
from edge_worker.machine.health import AgentHealth, worker_versions
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.proxy import resolve_proxy
from edge_worker.relay.tls import tls_context
from edge_worker.settings import Settings
from edge_worker.signing.parts import signing_of
from edge_worker.state.kept_identity import KeptIdentity
from edge_worker.state.runtime_dir import prepare_runtime_dir, runtime_dir_of
from edge_worker.state.state import Identity, StateDir
from edge_worker.task_host.lease import LEASE

EXIT_OK = 0
EXIT_REVOKED = 3
_CLEAN_UP_EVERY_S = 3600.0

log = EventLog("edge_worker.agent.worker")


@dataclass
class Worker:
    """One agent.

    Attributes:
        settings: Those of the owner.
        state: Prepared and locked.
        identity: From the enrolment.
        runtime: Runs the jobs; a `TaskHost` made from the settings unless given.
    """

    settings: Settings
    state: StateDir
    identity: Identity
    runtime: Runtime | None = None
    shutdown: Shutdown = field(default_factory=Shutdown)

    async def run(self) -> int:
        """Runs until drained; returns the exit status."""
        runtime_dir = runtime_dir_of(self.settings)
        socket = prepare_runtime_dir(runtime_dir)
        relay_url = self.settings.relay_url or self.identity.relay_url
        proxy = resolve_proxy(relay_url, self.settings, proxy_environment())
        tls = tls_context(self.settings)
        incarnation = self.state.next_incarnation()
        with bound(worker=self.identity.enrollment.worker), self.shutdown.on_signals():
            log.info(
                "worker_started",
                relay=relay_url,
                proxy=proxy.url if proxy else None,
                proxy_from=proxy.source if proxy else None,
                incarnation=incarnation,
                slots=self.settings.slots,
                queues=list(self.identity.enrollment.settings.queues),
                auxiliary_jobs=list(self.settings.auxiliary_jobs),
                commands=list(self.settings.commands),
                state_dir=str(self.state.path),
            )
            runtime = self.runtime or self._task_host(runtime_dir, socket)
            hosts = _hosts(self.settings, self.identity.enrollment, runtime, socket)
            link = Link()
            secret, limits = self.identity.secret, self.settings.call_limits
            async with RelayClient(relay_url, secret, tls=tls, proxy=proxy, link=link, limits=limits) as client:
                code = await self._work(client, link, hosts, socket, incarnation)
            log.info("worker_stopped", exit_code=code)
        return code

    def _task_host(self, runtime_dir: Path, socket: Path) -> TaskHost:
        return TaskHost(
            runtime_python=self.settings.runtime_python,
            runtime_dir=runtime_dir,
            state_dir=self.settings.state_dir,
            gateway_socket=socket,
            env=task_environment(self.settings),
            bundles={bundle: str(path) for bundle, path in self.settings.bundles.items()},
            hostname=task_hostname(self.identity.enrollment.worker, self.identity.enrollment.site),
            log_max_bytes=self.settings.log_max_bytes,
        )

    def _orders(self, table: JobRegistry, runner: JobRunner) -> Orders:
        worker = self.identity.enrollment.worker
        return Orders(self.shutdown, table, runner, worker, self.settings.slots, self.settings.drain_timeout_s)

    async def _work(self, client: RelayClient, link: Link, hosts: Hosts, socket: Path, incarnation: int) -> int:
        """Runs all loops until the shutdown allows to leave. A loop that fails shuts the agent down in order."""
        settings = self.settings
        identity = KeptIdentity(self.state, self.identity)
        signing = signing_of(self.state.path, settings, client, lambda: identity.current.enrollment)
        table = JobRegistry(settings.slots)
        fence = Fence(table, lease := Lease(socket.with_name(LEASE)))
        uploader = LogUploader(client, link)
        async with asyncio.TaskGroup() as jobs:
            bundles = Bundles(bundle_store(self.state, settings), client.bundles, link, jobs, settings.runtime_python)
            environments = environments_of(self.state, settings, bundles.disk, jobs)
            actions = ActionPerformer(
                table,
                self.state,
                RelayActions(client, link, lease, incarnation),
                ProcessActions(hosts.of, fence, FailingStarts(table), bundles, environments, settings.grace_s),
                uploader,
                signing.work.has_run,
            )
            rule = RuntimeCompatibility(
                table, frozenset(settings.auxiliary_jobs), hosts.rules, requirements=settings.bundle_requirements
            )
            runner = JobRunner(Performer(actions.perform, actions.note), self.state, table, jobs, rule, signing.work)
            rotation = SecretRotation(identity, client, link)
            orders = self._orders(table, runner)
            handler = PollHandler(runner, identity, rotation, orders, self.shutdown, rule.refused)
            gateway = Gateway(client, table, link, socket, settings.call_limits, on_user_code=signing.work.has_run)
            health = AgentHealth(
                self.state.path, client.proxy, link, client.skew, lambda: gateway.held_calls, uploader.lag_bytes
            )
            watch = RuntimeWatch(hosts.tasks, table, rule, hosts.other_kinds)
            control = _owners_control(
                self,
                enrollment=lambda: identity.current.enrollment,
                incarnation=incarnation,
                table=table,
                link=link,
                health=health,
                watch=watch,
                bundles=bundles,
            ).socket(socket.with_name(SOCKET_NAME))
            async with gateway.serving(), control.serving(), asyncio.TaskGroup() as loops:
                runner.recover_all()
                # Before these jobs continue: they may have been out of contact for too long.
                fence.check_all()
                orders.follow(self.identity.enrollment.settings)
                report = self._report(incarnation, health, watch)
                tuner = PollTimeoutTuner(settings.poll_hold_s)
                poll_loop = PollLoop(client, table, link, handler, report, tuner, fence)
                running = [
                    loops.create_task(hosts.tasks.run_forever(), name="task-host"),
                    loops.create_task(watch.run(), name="watch-runtime"),
                    loops.create_task(self._clean_up(), name="clean-up"),
                    *(loops.create_task(run(), name=name) for name, run in bundles.loops.items()),
                    loops.create_task(environments.run(), name="prune-environments"),
                    loops.create_task(_disk_watch(self.state, settings, table).run(), name="disk-watch"),
                    loops.create_task(ClockWatch(client.skew, table, settings.max_clock_skew_s).run(), name="clock"),
                    loops.create_task(orders.run(), name="orders"),
                    loops.create_task(runner.watch_unread(), name="watch-unread"),
                    loops.create_task(fence.run(), name="fence"),
                    loops.create_task(LinkProbe(client, link, table).run(), name="link-probe"),
                    loops.create_task(rotation.run(), name="rotate-secret"),
                    loops.create_task(signing.run(), name="signing-keys"),
                    loops.create_task(poll_loop.run(), name="poll-loop"),
                ]
                await Draining(self.shutdown, table, runner, settings.grace_s, settings.drain_timeout_s).until_leaving()
                for loop in running:
                    loop.cancel()
            runner.close_all()
        bundles.close()
        return EXIT_REVOKED if handler.is_revoked else EXIT_OK

    def _report(self, incarnation: int, health: AgentHealth, watch: RuntimeWatch) -> Report:
        return Report(
            incarnation=incarnation,
            instance=self.state.instance(),
            host=platform.node()[:253],
            auxiliary=self.settings.auxiliary_jobs,
            kinds=watch.kinds,
            settings_version=self.identity.enrollment.settings.version,
            versions=lambda: worker_versions(watch.airflow),
            health=health.read,
        )

    async def _clean_up(self) -> None:
        while True:
            await asyncio.to_thread(self.state.clean_up, keep_days=self.settings.log_keep_days, now=time.time())
            await asyncio.sleep(_CLEAN_UP_EVERY_S)


def _disk_watch(state: StateDir, settings: Settings, table: JobRegistry) -> DiskWatch:
    return DiskWatch(
        state.path, table, state.ended_jobs(max_bytes=settings.spool_max_bytes), settings.disk_reserve_bytes
    )


def _hosts(settings: Settings, enrollment: Enrollment, runtime: Runtime, socket: Path) -> Hosts:
    env = task_environment(settings)
    rules = CommandRules(settings.commands, settings.command_env, env.get("PATH", os.defpath))
    commands = CommandHost(
        env=env,
        names={"EDGE_RELAY_WORKER": enrollment.worker, "EDGE_RELAY_SITE": enrollment.site},
        find=rules.find,
        gateway_socket=socket,
        log_max_bytes=settings.log_max_bytes,
    )
    return Hosts(runtime, commands, rules)


def _owners_control(
    worker: Worker,
    *,
    enrollment: Callable[[], Enrollment],
    incarnation: int,
    table: JobRegistry,
    link: Link,
    health: AgentHealth,
    watch: RuntimeWatch,
    bundles: Bundles,
) -> AgentControl:
    """What the machine's owner may ask; the owner's pause applies from here on."""
    intake = OwnIntake(OwnPauseFile(worker.state.path), table)
    intake.restore()
    relay_url = worker.settings.relay_url or worker.identity.relay_url
    shutdown = worker.shutdown
    return AgentControl(
        AgentFacts(relay_url, health.proxy, incarnation, worker.settings.spool_max_bytes),
        worker.state,
        table,
        link,
        intake,
        enrollment=enrollment,
        # Of its own: the share of busy CPU counts since the last reading.
        health=replace(health).read,
        versions=lambda: worker_versions(watch.airflow),
        drain=partial(shutdown.reach, ShutdownStage.DRAIN),
        stop=partial(shutdown.reach, ShutdownStage.STOP),
        stage=lambda: shutdown.stage.name.lower(),  # noqa: PLW0108  # the stage changes
        fetches=bundles.fetching,
    )
