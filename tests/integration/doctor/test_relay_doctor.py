"""`edge-relay doctor` names the layer of each broken set-up, says what to do, and is content with a healthy one."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from aiohttp import web

from edge_broker import layout, permissions
from edge_broker.doctor import server_checks
from edge_broker.doctor.rights_probe import missing_rights
from edge_broker.layout import consumer_config
from edge_broker.subjects import DEAD, DESIRED_BUCKET, JOBS, kv_stream
from edge_relay import cli
from edge_relay.standalone import nats_config, nats_server, tls
from edge_relay.standalone.nats_server import NatsServer, find_binary
from edge_schemas.wire.jobs import JobKind
from edge_service.findings import Status
from edge_ui.paths import UI_PAGE
from integration.doctor.conftest import (
    QUEUE,
    Centre,
    names_only,
    not_tried,
    process,
    relay_doctor,
    relay_doctor_process,
)
from support.nats.server import PASSWORDS, free_port
from support.network.certificates import make_certificates

pytestmark = pytest.mark.asyncio(loop_scope="module")
Change = Callable[[dict[str, Any]], None]


async def test_a_healthy_centre(centre: Centre) -> None:
    """Nothing but ok, on NATS nothing is left behind, and its log has no complaint."""
    before = await _everything(centre)
    people = {"--admin-password-file": str(centre.folder / "admin.password")}
    findings = await relay_doctor_process(centre.options | people)
    assert {one["status"] for one in findings} == {Status.OK}, findings
    assert {one["layer"] for one in findings} == {"settings", "nats", "gate", "relay"}
    assert await _everything(centre) == before
    log = (centre.folder / "nats" / "nats-server.log").read_text()
    assert "Violation" not in log
    assert "Invalid JetStream" not in log


async def test_lines_for_people(centre: Centre) -> None:
    options = centre.options | {"--nats-password-file": "/nowhere/relay.password"}
    status, out, _ = await process("edge_relay", "doctor", *(word for pair in options.items() for word in pair))
    assert status == 1
    lines = out.splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith("FAILED"))
    assert lines[number].startswith("FAILED     settings      RELAY_NATS_PASSWORD_FILE")
    assert lines[number + 1].startswith("           Put the password")
    assert "not tried  nats          nats.streams: because of settings.nats_password" in lines


async def test_wrong_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "--jsn"])
    assert ended.value.code == 2
    assert "--jsn" in capsys.readouterr().err


async def test_a_setting_that_is_none(centre: Centre) -> None:
    findings = await relay_doctor(centre.options | {"--port": "workers"})
    names_only(findings, "settings.values", Status.FAILED, "edge-relay serve --help", "port")


async def test_a_standalone_relay_that_is_not_up(tmp_path: Path) -> None:
    findings = await relay_doctor({"--data-dir": str(tmp_path)})
    names_only(findings, "settings.values", Status.FAILED, "edge-relay standalone --data-dir", "no standalone relay")


async def test_a_ca_file_that_is_none(centre: Centre) -> None:
    no_ca = centre.file("ca.pem", "not a certificate")
    findings = await relay_doctor(centre.options | {"--nats-ca-file": no_ca})
    names_only(findings, "settings.nats_ca_file", Status.FAILED, "RELAY_NATS_CA_FILE", no_ca)


async def test_a_secret_that_others_may_read(centre: Centre) -> None:
    wide = centre.file("wide.password", PASSWORDS["relay"], mode=0o644)
    findings = await relay_doctor(centre.options | {"--nats-password-file": wide})
    names_only(findings, "settings.modes", Status.WARNING, f"chmod o=,g-w {wide}")


async def test_a_name_that_dns_does_not_know(centre: Centre) -> None:
    findings = await relay_doctor(centre.options | {"--nats-urls": "nats://nats.invalid:4222"})
    names_only(findings, "nats.dns", Status.FAILED, "DNS", "nats.invalid")


async def test_nats_down(centre: Centre) -> None:
    port = free_port()
    findings = await relay_doctor(centre.options | {"--nats-urls": f"nats://127.0.0.1:{port}"})
    names_only(findings, "nats.connect", Status.FAILED, "Is nats-server up", "refused")
    assert {"nats.credentials.relay", "nats.streams", "nats.consumers"} <= not_tried(findings)


async def test_one_of_two_servers_down(centre: Centre) -> None:
    urls = f"{centre.server.url},nats://127.0.0.1:{free_port()}"
    findings = await relay_doctor(centre.options | {"--nats-urls": urls})
    names_only(findings, "nats.connect", Status.WARNING, "Is nats-server up")


async def test_a_server_that_is_too_old(centre: Centre) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version":"2.10.5","jetstream":true,"max_payload":1048576}\r\n')
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as old:
        port = old.sockets[0].getsockname()[1]
        findings = await relay_doctor(centre.options | {"--nats-urls": f"nats://127.0.0.1:{port}"})
    names_only(findings, "nats.version", Status.FAILED, "Install nats-server 2.11.0 or later", "2.10.5")


async def test_a_certificate_of_nats_that_nobody_here_signed(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_certificates(tmp_path)

    def with_tls(config: dict[str, Any]) -> None:
        config["tls"] = {"cert_file": str(files.cert_file), "key_file": str(files.key_file)}

    async with _server(tmp_path, monkeypatch, with_tls) as server:
        options = centre.options | {"--nats-urls": server.url.replace("nats:", "tls:")}
        findings = await relay_doctor(options)
        names_only(findings, "nats.tls", Status.FAILED, "Name the CA that signed")
        trusting = await relay_doctor(options | {"--nats-ca-file": str(files.ca_file)})
        # It is valid for two days.
        assert _of(trusting, "nats.tls")["status"] == Status.WARNING
        assert _of(trusting, "nats.credentials.relay")["status"] == Status.OK


async def test_a_wrong_password(centre: Centre) -> None:
    wrong = centre.file("wrong.password", "not-the-password-of-relay")
    findings = await relay_doctor_process(centre.options | {"--nats-password-file": wrong})
    names_only(findings, "nats.credentials.relay", Status.FAILED, "relay.password", "Authorization Violation")
    assert "not-the-password" not in json.dumps(findings)


@pytest.mark.parametrize("right", ["$JS.ACK.EDGE_JOBS.>", "$KV.edge_jobs.>", "$JS.API.CONSUMER.MSG.NEXT.EDGE_JOBS.*"])
async def test_a_user_without_one_right(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: str
) -> None:
    def without(config: dict[str, Any]) -> None:
        user = next(user for user in config["accounts"]["EDGE"]["users"] if user["user"] == permissions.RELAY)
        user["permissions"]["publish"].remove(right)

    async with _server(tmp_path, monkeypatch, without) as server:
        findings = await relay_doctor(centre.options | {"--nats-urls": server.url})
    names_only(findings, "nats.rights.relay", Status.FAILED, "nats-config", f"may not publish {right}")


async def test_jetstream_turned_off(centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(config: dict[str, Any]) -> None:
        del config["jetstream"], config["accounts"]["EDGE"]["jetstream"]

    async with _server(tmp_path, monkeypatch, without) as server:
        findings = await relay_doctor(centre.options | {"--nats-urls": server.url})
    names_only(findings, "nats.jetstream", Status.FAILED, "'jetstream' block", "turned off")


async def test_a_server_that_goes_away_meanwhile(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finding, not a crash: the connection is there, and then it is not."""
    async with _server(tmp_path, monkeypatch, lambda _: None) as server:

        async def find_and_kill(probe: Any, role: str) -> list[str]:
            missing = await missing_rights(probe, role)
            await asyncio.to_thread(os.kill, server.pid, signal.SIGKILL)
            return missing

        monkeypatch.setattr(server_checks, "missing_rights", find_and_kill)
        findings = await relay_doctor(centre.options | {"--nats-urls": server.url})
    names_only(findings, "nats.jetstream", Status.FAILED, "Are all servers of NATS up", "NATS does not answer")


async def test_a_missing_stream(centre: Centre) -> None:
    await centre.admin.api(f"STREAM.DELETE.{DEAD}")
    try:
        findings = await relay_doctor(centre.options)
    finally:
        await layout.apply(centre.admin, layout.LayoutSettings())
    _and_not_ready(findings, "nats.streams", "edge-relay streams apply", f"no stream {DEAD}")


async def test_a_stream_whose_setting_was_changed(centre: Centre) -> None:
    config = (await centre.admin.api(f"STREAM.INFO.{DEAD}"))["config"]
    await centre.admin.api(f"STREAM.UPDATE.{DEAD}", {**config, "max_msgs_per_subject": 5})
    try:
        findings = await relay_doctor(centre.options)
    finally:
        await centre.admin.api(f"STREAM.UPDATE.{DEAD}", config)
    _and_not_ready(findings, "nats.streams", "edge-relay streams apply", "max_msgs_per_subject is 5, not 1")


async def test_a_consumer_whose_limit_was_changed(centre: Centre) -> None:
    await _change_consumer(centre, max_ack_pending=1)
    try:
        findings = await relay_doctor(centre.options)
    finally:
        await _change_consumer(centre)
    detail = f"consumer {QUEUE} of queue {QUEUE}: max_ack_pending is 1, not -1"
    names_only(findings, "nats.consumers", Status.FAILED, f"nats consumer rm {JOBS} {QUEUE}", detail)


async def test_a_consumer_made_by_hand(centre: Centre) -> None:
    """With the server's default, which can't be changed any more."""
    await centre.admin.api(f"CONSUMER.DELETE.{JOBS}.{QUEUE}")
    await _change_consumer(centre, max_waiting=512)
    try:
        findings = await relay_doctor(centre.options)
    finally:
        await centre.admin.api(f"CONSUMER.DELETE.{JOBS}.{QUEUE}")
        await _change_consumer(centre)
    names_only(findings, "nats.consumers", Status.FAILED, "It can't be changed", "max_waiting is 512, not 8192")


async def test_a_queue_that_was_paused(centre: Centre) -> None:
    call = f"CONSUMER.PAUSE.{JOBS}.{QUEUE}"
    await centre.admin.api(call, {"pause_until": (datetime.now(UTC) + timedelta(hours=1)).isoformat()})
    try:
        findings = await relay_doctor(centre.options)
    finally:
        await centre.admin.api(call, {})
    names_only(findings, "nats.consumers", Status.WARNING, f"nats consumer resume {JOBS} {QUEUE}", "paused")


async def test_a_stream_that_is_nearly_full(centre: Centre) -> None:
    config = (await centre.admin.api(f"STREAM.INFO.{DEAD}"))["config"]
    await centre.admin.store("edge.dead.-.plant.job", bytes(3000))
    await centre.admin.api(f"STREAM.UPDATE.{DEAD}", {**config, "max_bytes": 3500})
    try:
        findings = await relay_doctor(centre.options)
    finally:
        await centre.admin.api(f"STREAM.UPDATE.{DEAD}", config)
        await centre.admin.api(f"STREAM.PURGE.{DEAD}")
    names_only(findings, "nats.store", Status.WARNING, "raise the limit", DEAD)


async def test_a_keeper_that_is_down(centre: Centre) -> None:
    findings = await relay_doctor(centre.options | {"--gate-urls": f"http://127.0.0.1:{free_port()}"})
    names_only(findings, "gate.connect", Status.FAILED, "Start 'airflow edge-relay keeper'", "refused")
    assert not_tried(findings) == {"gate.clock", "gate.secret", "gate.keeper"}


async def test_one_of_two_keepers_down(centre: Centre) -> None:
    urls = f"http://127.0.0.1:{free_port()},{centre.options['--gate-urls']}"
    findings = await relay_doctor(centre.options | {"--gate-urls": urls})
    names_only(findings, "gate.connect", Status.WARNING, "Start 'airflow edge-relay keeper'", "refused")


async def test_another_secret_than_the_keeper(centre: Centre) -> None:
    other = centre.file("other.secret", "another-secret-than-that-of-the-keeper")
    findings = await relay_doctor_process(centre.options | {"--gate-key-file": other})
    names_only(findings, "gate.secret", Status.FAILED, "one secret", "another secret than this machine")


async def test_a_keeper_whose_clock_is_wrong(centre: Centre) -> None:
    async with _gate(format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)) as url:
        findings = await relay_doctor(centre.options | {"--gate-urls": url})
    assert _of(findings, "gate.clock")["status"] == Status.FAILED
    assert "NTP" in _of(findings, "gate.clock")["advice"]
    assert not_tried(findings) == {"gate.secret"}


async def test_a_keeper_without_the_database(centre: Centre) -> None:
    async with _gate(None, database_checked_s_ago=None) as url:
        findings = await relay_doctor(centre.options | {"--gate-urls": url})
    assert "sql_alchemy_conn" in _of(findings, "gate.keeper")["advice"]


async def test_a_certificate_that_has_expired(centre: Centre) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=1000)
    files = tls.ensure(centre.folder / "expired", ["localhost"], now=long_ago)
    given = {"--tls-cert-file": str(files.cert), "--tls-key-file": str(files.key)}
    findings = await relay_doctor(centre.options | given)
    names_only(findings, "relay.certificate", Status.FAILED, "Renew it", "expired")


async def test_a_certificate_for_another_host(centre: Centre) -> None:
    findings = await relay_doctor(centre.options | {"--public-url": "https://relay.example.com"})
    bad = _of(findings, "relay.certificate")
    assert bad["status"] == Status.FAILED
    assert "Get one for relay.example.com" in bad["advice"]
    # Whether it can be reached from here is for the workers to say.
    assert _of(findings, "relay.public_url")["status"] == Status.WARNING


async def test_a_relay_that_is_down(centre: Centre) -> None:
    findings = await relay_doctor(centre.options | {"--port": str(free_port())})
    names_only(findings, "relay.ready", Status.FAILED, "Start 'edge-relay serve'", "refused")
    assert not_tried(findings) == {"relay.public_url"}


async def test_something_else_at_the_port_of_the_relay(centre: Centre) -> None:
    async with _gate(None) as url:
        findings = await relay_doctor(centre.options | {"--operators-port": url.rpartition(":")[2]})
    names_only(findings, "relay.operators", Status.FAILED, "Something else listens", "is not a relay")


async def test_a_relay_without_a_dashboard(centre: Centre) -> None:
    """As one of an older release, or behind a proxy that passes some paths only."""

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.router.add_get("/readyz", ready)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", free_port())
        await site.start()
        findings = await relay_doctor(centre.options | {"--operators-port": site.name.rpartition(":")[2]})
    finally:
        await runner.cleanup()
    names_only(findings, "relay.operators", Status.WARNING, "Upgrade it", "serves no dashboard")


async def test_a_bucket_that_an_older_release_did_not_have(centre: Centre) -> None:
    """The relay was upgraded, and its streams were not."""
    desired = kv_stream(DESIRED_BUCKET)
    await centre.admin.api(f"STREAM.DELETE.{desired}")
    try:
        finding = _of(await relay_doctor(centre.options), "nats.streams")
    finally:
        await layout.apply(centre.admin, layout.LayoutSettings())
    assert finding["status"] == Status.FAILED
    assert desired in finding["detail"]
    assert "edge-relay streams apply" in finding["advice"]


async def test_too_few_files_for_the_workers(centre: Centre) -> None:
    """The limit is that of the relay's process, which may have another one than the doctor."""
    async with _gate(
        None, {"/readyz": '{"status": "ok"}', "/metrics": "process_max_fds 100.0\n", UI_PAGE: "the page"}
    ) as url:
        findings = await relay_doctor(centre.options | {"--operators-port": url.rpartition(":")[2]})
    names_only(findings, "relay.open_files", Status.WARNING, "LimitNOFILE", "100 files, too few for 1 enrolled")


@asynccontextmanager
async def _server(folder: Path, monkeypatch: pytest.MonkeyPatch, change: Change) -> AsyncIterator[NatsServer]:
    """A nats-server whose configuration is not what it should be."""
    render = nats_config.render_config

    def changed(**given: Any) -> str:
        config = json.loads(render(**given))
        change(config)
        return json.dumps(config)

    monkeypatch.setattr(nats_server, "render_config", changed)
    server = NatsServer(find_binary(), folder / "other-nats", PASSWORDS, port=free_port())
    await server.start()
    try:
        yield server
    finally:
        await server.stop(kill=True)


@asynccontextmanager
async def _gate(date: str | None, pages: Mapping[str, str] = MappingProxyType({}), **health: Any) -> AsyncIterator[str]:
    """What speaks like the gate of a keeper that has a fault; a whole keeper would take its clock from the machine.

    `pages` are further ones, for what is no gate.
    """
    told = {"broker_connected": True, "view_complete": True, "contact_possible": True, "database_checked_s_ago": 0.5}

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response(told | health, headers={"Date": date} if date else None)

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=pages[request.path])

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    for path in pages:
        app.router.add_get(path, page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _change_consumer(centre: Centre, **changes: Any) -> None:
    config = consumer_config(None, QUEUE, JobKind.TASK) | changes
    call = f"CONSUMER.CREATE.{JOBS}.{QUEUE}.{config['filter_subject']}"
    await centre.admin.api(call, {"stream_name": JOBS, "config": config})


async def _everything(centre: Centre) -> dict[str, Any]:
    """What a doctor could have changed on the server."""
    streams = (await centre.admin.api("STREAM.LIST"))["streams"]
    consumers = (await centre.admin.api(f"CONSUMER.LIST.{JOBS}"))["consumers"]
    return {
        # Of buckets the relay's beats and polls continue, and its watches are consumers.
        **{one["config"]["name"]: (one["config"], one["state"]["messages"]) for one in streams},
        "consumers": [one["config"] for one in consumers],
    }


def _of(findings: list[dict[str, str]], check: str) -> dict[str, str]:
    return next(one for one in findings if one["check"] == check)


def _and_not_ready(findings: list[dict[str, str]], check: str, advice: str, detail: str) -> None:
    """As `names_only`, but the relay may have noticed by itself, and then says so too."""
    noticed = ("relay.ready", "relay.operators", "relay.public_url")
    others = [one for one in findings if one["check"] not in noticed]
    names_only(others, check, Status.FAILED, advice, detail)
