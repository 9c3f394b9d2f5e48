"""What operators do with tokens: create, list and revoke access tokens and enrolment tokens. Each change is audited."""

from collections.abc import Mapping
from datetime import UTC, datetime

from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import KEPT_AFTER_EXPIRY, EnrollmentStore
from edge_relay.identity.operators.access_tokens import AccessTokenStore, token_id
from edge_relay.identity.operators.enroll_tokens import EnrollTokens
from edge_relay.identity.operators.operator import Operator
from edge_relay.identity.queue_rights import QueueRights
from edge_relay.shielded import run_to_completion
from edge_relay.workers.enroll_command import EnrollCommand
from edge_schemas.admin.access import (
    TOKEN_ID_CHARS,
    AccessToken,
    AccessTokenEntry,
    AccessTokenRequest,
    AccessTokenRow,
    EnrollTokenRow,
    SignedInBy,
)
from edge_schemas.admin.audit import AuditEvent, TargetKind
from edge_schemas.admin.rows import AccessTokenPage, EnrollTokenPage
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import EnrollToken, EnrollTokenEntry, EnrollTokenRequest, hash_secret


class AccessAdministration:
    """Operators' access to tokens.

    An operator who is limited to some sites or queues may create enrolment tokens for these, and no access tokens.
    """

    def __init__(
        self,
        access: AccessTokenStore,
        enrollments: EnrollmentStore,
        enroll_tokens: EnrollTokens,
        credentials: Credentials,
        *,
        command: EnrollCommand,
    ) -> None:
        self._access = access
        self._enrollments = enrollments
        self._enroll_tokens = enroll_tokens
        self._credentials = credentials
        self._command = command

    def access_tokens(self, *, operator: Operator, limit: int, cursor: str | None) -> AccessTokenPage:
        """A page of all access tokens, by name.

        Raises:
            EdgeError: `forbidden`: the operator is limited.
        """
        operator.require_everything()
        rows = sorted((_row(one, entry) for one, entry in self._credentials.operators.all().items()), key=_order)
        following = [row for row in rows if cursor is None or _order(row) > cursor]
        page, more = following[:limit], len(following) > limit
        return AccessTokenPage(
            items=tuple(page), total=len(rows), next=_order(page[-1]) if more else None, as_of=datetime.now(UTC)
        )

    async def create_access_token(self, request: AccessTokenRequest, *, operator: Operator) -> AccessToken:
        """A new access token. A repeat creates another token.

        Raises:
            EdgeError: `forbidden`: the operator is limited, or is an Airflow user.
        """
        operator.require_everything()
        if operator.by is SignedInBy.AIRFLOW:
            raise EdgeError(ErrorCode.FORBIDDEN, "access tokens are created with an access token or by sign-in")

        def describe(token: AccessToken) -> AuditEvent:
            after = request.model_dump(mode="json", exclude={"reason", "ttl_s"}, exclude_none=True)
            expires_at = None if token.expires_at is None else token.expires_at.isoformat()
            event = _event("access-token-created", token.id, operator, request.reason)
            return event.model_copy(update={"after": {**after, "expires_at": expires_at}})

        return await run_to_completion(self._access.create(request, now=datetime.now(UTC), describe=describe))

    async def revoke_access_token(self, beginning: str, *, operator: Operator, reason: str) -> None:
        """End an access token at every replica. A repeat changes nothing.

        Args:
            beginning: Its id.
            operator: Who does it.
            reason: Why.

        Raises:
            EdgeError: `forbidden`, `not_found`.
        """
        operator.require_everything()
        token_hash = _only(beginning, list(self._credentials.operators.all()))

        def describe(before: AccessTokenEntry) -> AuditEvent:
            event = _event("access-token-revoked", token_id(token_hash), operator, reason)
            return _revocation(event, {"name": before.name, "role": str(before.role)})

        async def revoke() -> None:
            await self._access.revoke_one(token_hash, now=datetime.now(UTC), describe=describe)
            await self._credentials.announce(token_hash)

        await run_to_completion(revoke())

    async def create_enroll_token(self, request: EnrollTokenRequest, *, operator: Operator) -> EnrollToken:
        """A new enrolment token. A repeat creates another token; the first one expires unused.

        Raises:
            EdgeError: `forbidden`: the operator is limited, and the token would go beyond that; see `QueueRights`.
        """
        if not _is_within(request, operator):
            text = f"{operator.name} is limited to some sites or queues, and this token would go beyond them"
            raise EdgeError(ErrorCode.FORBIDDEN, text)
        QueueRights(self._credentials, operator.scope).check(request.team, request.queues)

        def describe(token: EnrollToken) -> AuditEvent:
            target = token_id(hash_secret(token.token))
            event = _event("enroll-token-created", target, operator, request.reason, site=request.site)
            expires_at = token.expires_at.isoformat()
            after = {"queues": list(request.queues), "uses": request.uses, "expires_at": expires_at}
            return event.model_copy(update={"after": after})

        now = datetime.now(UTC)
        token = await run_to_completion(self._enrollments.create_token(request, now=now, describe=describe))
        await self._command.refresh()
        return token.model_copy(update={"command": self._command.text(token.token)})

    async def enroll_tokens(self, *, operator: Operator, limit: int, cursor: str | None) -> EnrollTokenPage:
        """A page of enrolment tokens, by id. It may have fewer rows than `limit`: some may be gone, or out of scope.

        Raises:
            BrokerUnavailable: They can't be read.
        """
        as_of = datetime.now(UTC)
        hashes = [one for one in await self._enroll_tokens.hashes() if cursor is None or one > cursor]
        entries = await self._enroll_tokens.read(hashes[:limit])
        rows = (_enroll_row(one, entry) for one, entry in entries.items() if _is_within(entry, operator))
        return EnrollTokenPage(items=tuple(rows), next=hashes[limit - 1] if len(hashes) > limit else None, as_of=as_of)

    async def revoke_enroll_token(self, beginning: str, *, operator: Operator, reason: str) -> None:
        """No further worker may enrol with a token; arguments and errors as for `revoke_access_token`."""
        hashes = await self._enroll_tokens.hashes(beginning) if len(beginning) >= TOKEN_ID_CHARS else []
        token_hash = _only(beginning, hashes)
        entry = (await self._enroll_tokens.read([token_hash])).get(token_hash)
        if entry is None or not _is_within(entry, operator):
            raise _not_found()

        def describe(before: EnrollTokenEntry) -> AuditEvent:
            event = _event("enroll-token-revoked", token_id(token_hash), operator, reason, site=before.site)
            return _revocation(event, {"used": len(before.used)})

        kept, now = KEPT_AFTER_EXPIRY, datetime.now(UTC)
        await run_to_completion(
            self._enroll_tokens.revoke(token_hash, now=now, kept_after_expiry=kept, describe=describe)
        )


def _event(action: str, token: str, operator: Operator, reason: str, *, site: str | None = None) -> AuditEvent:
    return AuditEvent(
        at=datetime.now(UTC),
        action=action,
        target_kind=TargetKind.TOKEN,
        target=token,
        actor=operator.actor,
        reason=reason or None,
        site=site,
    )


def _revocation(event: AuditEvent, shown: Mapping[str, object]) -> AuditEvent:
    return event.model_copy(update={"before": {**shown, "revoked": False}, "after": {**shown, "revoked": True}})


def _only(beginning: str, hashes: list[str]) -> str:
    """The one token whose hash begins so.

    Raises:
        EdgeError: `not_found`.
    """
    found = [one for one in hashes if one.startswith(beginning)] if len(beginning) >= TOKEN_ID_CHARS else []
    if len(found) != 1:
        raise _not_found()
    return found[0]


def _not_found() -> EdgeError:
    return EdgeError(ErrorCode.NOT_FOUND, "there is no token with this id; the list of tokens shows all")


def _is_within(token: EnrollTokenRequest | EnrollTokenEntry, operator: Operator) -> bool:
    scope = operator.scope
    return scope.has_site(token.site) and all(scope.has_queue(queue) for queue in token.queues)


def _row(token_hash: str, entry: AccessTokenEntry) -> AccessTokenRow:
    return AccessTokenRow(
        id=token_id(token_hash),
        name=entry.name,
        role=entry.role,
        scope=entry.scope,
        created_at=entry.created_at,
        expires_at=entry.expires_at,
        revoked_at=entry.revoked_at,
        last_used_at=entry.last_used_at,
        for_airflow=entry.for_airflow,
    )


def _order(row: AccessTokenRow) -> str:
    """What the list is sorted by; also the cursor."""
    return f"{row.name} {row.id}"


def _enroll_row(token_hash: str, entry: EnrollTokenEntry) -> EnrollTokenRow:
    return EnrollTokenRow(
        id=token_id(token_hash),
        site=entry.site,
        queues=entry.queues,
        team=entry.team,
        uses=entry.uses,
        used=len(entry.used),
        workers=tuple(use.worker for use in entry.used),
        expires_at=entry.expires_at,
        revoked_at=entry.revoked_at,
    )
