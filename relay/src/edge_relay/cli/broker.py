"""Commands that use NATS directly, as user `admin`: streams, access tokens, server configuration."""

import asyncio
import secrets
from argparse import Namespace
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from edge_broker import layout
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import ADMIN, ROLES
from edge_relay.cli.output import EXIT_NO_ANSWER, EXIT_USAGE, Failure, print_json, print_line, print_table
from edge_relay.identity.credentials import access_notice
from edge_relay.identity.operators.access_tokens import AccessTokenStore
from edge_relay.settings import NatsAdminSettings, SettingsError, check_ca_file, refuse_credentials
from edge_relay.standalone.info import read_info
from edge_relay.standalone.nats_config import Node, render_config
from edge_schemas.admin.access import AccessTokenEntry, AccessTokenRequest, Role
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_service.private_files import make_private_dir, read_or_create, read_secret

CONNECT_S = 5.0


def apply_streams(options: Namespace) -> None:
    """`streams apply`."""

    async def apply(broker: Broker) -> None:
        chosen = layout.LayoutSettings(
            replicas=options.replicas,
            jobs_max_bytes=options.jobs_max,
            logs_max_bytes=options.logs_max,
            logs_max_age_days=options.logs_max_age_days,
            bundles_max_bytes=options.bundles_max,
        )
        for line in await layout.apply(broker, chosen):
            print_line(line)

    _with_broker(options, apply)


def create_access_token(options: Namespace) -> None:
    """`access-token create`."""
    try:
        order = AccessTokenRequest(
            name=options.name,
            role=Role(options.role),
            sites=_names(options.sites),
            queues=_names(options.queues),
            ttl_s=options.ttl,
            for_airflow=options.for_airflow,
        )
    except ValidationError as error:
        from edge_relay.http.bodies import explain

        raise Failure(explain(error), EXIT_USAGE) from None

    async def create(broker: Broker) -> None:
        created = await AccessTokenStore(broker).create(order, now=datetime.now(UTC))
        if options.json:
            print_json(created.model_dump(mode="json", exclude_none=True))
        else:
            print_line(created.token)
            until = "without an end" if created.expires_at is None else f"until {created.expires_at:%F %H:%M} UTC"
            print_line(f"For {created.name}, role {created.role}, {until}.")
            print_line(
                "It is shown only now. Keep it in a file of mode 0600 and name the file with --access-token-file."
            )

    _with_broker(options, create)


def list_access_tokens(options: Namespace) -> None:
    """`access-token list`."""

    async def show(broker: Broker) -> None:
        entries = sorted((await AccessTokenStore(broker).list()).values(), key=lambda one: (one.name, one.created_at))
        if options.json:
            print_json({"access_tokens": [_facts(entry) for entry in entries]})
        elif not entries:
            print_line("There is no access token yet. 'edge-relay access-token create' creates one.")
        else:
            now = datetime.now(UTC)
            header = ("NAME", "ROLE", "SITES", "QUEUES", "CREATED (UTC)", "EXPIRES", "LAST USED", "STATE")
            print_table(header, [_row(entry, now) for entry in entries])

    _with_broker(options, show)


def revoke_access_token(options: Namespace) -> None:
    """`access-token revoke`."""

    async def revoke(broker: Broker) -> None:
        try:
            hashes = await AccessTokenStore(broker).revoke(options.name, now=datetime.now(UTC))
        except EdgeError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            raise Failure(f"{error}: 'edge-relay access-token list' shows all") from None
        for token_hash in hashes:
            # Relays follow the bucket; the notice is for a relay whose watch has died unnoticed.
            await broker.publish(access_notice(token_hash))
        if options.json:
            print_json({"name": options.name, "tokens": len(hashes)})
        else:
            print_line(f"{options.name} is revoked ({len(hashes)} token(s)): calls with it are refused from now on.")

    _with_broker(options, revoke)


def _facts(entry: AccessTokenEntry) -> dict[str, object]:
    shown = entry.model_dump(mode="json", exclude_none=True, exclude={"revoked_at"})
    return {
        **shown,
        "created_at": entry.created_at.astimezone(UTC).isoformat(),
        "revoked": entry.revoked_at is not None,
    }


def _row(entry: AccessTokenEntry, now: datetime) -> tuple[str, ...]:
    state = "active"
    if entry.revoked_at is not None:
        state = "revoked"
    elif entry.expires_at is not None and entry.expires_at <= now:
        state = "expired"
    return (
        entry.name,
        f"{entry.role} for Airflow" if entry.for_airflow else str(entry.role),
        "all" if entry.scope.sites is None else ",".join(entry.scope.sites),
        "all" if entry.scope.queues is None else ",".join(entry.scope.queues),
        _minute(entry.created_at, ""),
        _minute(entry.expires_at, "never"),
        _minute(entry.last_used_at, "-"),
        state,
    )


def _minute(time: datetime | None, otherwise: str) -> str:
    return otherwise if time is None else f"{time.astimezone(UTC):%F %H:%M}"


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def print_nats_config(options: Namespace) -> None:
    """`nats-config`."""
    directory: Path = options.secrets_dir
    try:
        if options.create:
            make_private_dir(directory)
        passwords = {role: _password(directory / f"{role}.password", create=options.create) for role in ROLES}
        node = _node(options, directory)
    except (OSError, ValueError) as error:
        raise Failure(f"{error}. --create creates what is missing", EXIT_USAGE) from None
    text = render_config(
        host=options.host,
        port=options.port,
        store_dir=options.store_dir,
        passwords=passwords,
        monitor=options.monitor,
        max_store_bytes=options.max_store,
        node=node,
    )
    print(text)


def _node(options: Namespace, directory: Path) -> Node | None:
    names = tuple(part.strip() for part in (options.nodes or "").split(",") if part.strip())
    if not names and options.node is None:
        return None
    if options.node not in names:
        raise Failure("--node must be one of --nodes", EXIT_USAGE)
    return Node(options.node, names, _password(directory / "cluster.password", create=options.create))


def _password(path: Path, *, create: bool) -> str:
    return read_or_create(path, secrets.token_urlsafe(32)) if create else read_secret(path)


def _with_broker(options: Namespace, work: Callable[[Broker], Awaitable[None]]) -> None:
    settings = _broker_settings(options)

    async def run() -> None:
        async with Broker(settings) as broker:
            await broker.wait_connected(CONNECT_S)
            await work(broker)

    try:
        asyncio.run(run())
    except BrokerUnavailable as error:
        raise Failure(f"{error}. Is nats-server up, and is this the password of user admin?", EXIT_NO_ANSWER) from None
    except layout.LayoutRefused as error:
        raise Failure(str(error)) from None


def _broker_settings(options: Namespace) -> BrokerSettings:
    try:
        settings = NatsAdminSettings()
        if options.data_dir is not None:
            info = read_info(options.data_dir)
            return BrokerSettings((info.nats_url,), ADMIN, read_secret(info.secrets_dir / f"{ADMIN}.password"))
        password_file = options.admin_password_file or settings.admin_password_file
        if password_file is None:
            raise Failure("--admin-password-file is needed, or --data-dir of a standalone relay", EXIT_USAGE)
        urls = tuple(part.strip() for part in options.nats_urls.split(",")) if options.nats_urls else settings.nats_urls
        refuse_credentials("--nats-urls", urls)
        ca_file = options.nats_ca_file or settings.nats_ca_file
        check_ca_file("--nats-ca-file", ca_file)
        return BrokerSettings(urls, ADMIN, read_secret(password_file), ca_file)
    except (SettingsError, OSError, ValueError) as error:
        raise Failure(str(error), EXIT_USAGE) from None
