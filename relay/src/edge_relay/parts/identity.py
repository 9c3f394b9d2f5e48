"""Who calls: the parts that know credentials, tokens, sessions and receipts."""

from dataclasses import dataclass

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.desired.state import DesiredState
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.lookups import Lookups
from edge_relay.identity.operators.access_credentials import OperatorCredentials
from edge_relay.identity.operators.access_tokens import AccessTokenStore
from edge_relay.identity.operators.ended_sessions import EndedSessions
from edge_relay.identity.operators.token_uses import TokenUses
from edge_relay.identity.receipts import ReceiptKey
from edge_relay.identity.rotation import SecretRotation
from edge_relay.metrics.replica import Metrics
from edge_relay.settings import Settings
from edge_relay.sign_in.oidc import Oidc
from edge_relay.sign_in.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Identity:
    """Of workers and operators.

    Attributes:
        oidc: None if no identity provider is set.
        enrollments: The credentials of workers.
    """

    lookups: Lookups
    credentials: Credentials
    access_tokens: AccessTokenStore
    token_uses: TokenUses
    rotation: SecretRotation
    sessions: Sessions
    oidc: Oidc | None
    enrollments: EnrollmentStore
    receipt_key: ReceiptKey


def build_identity(settings: Settings, broker: Broker, desired: DesiredState, metrics: Metrics) -> Identity:
    """Build the parts.

    Raises:
        SettingsError: A secret can't be read.
    """
    bucket = Bucket(broker, ACCESS_BUCKET)
    lookups = Lookups(
        bucket,
        per_s=settings.lookups_per_s,
        per_address_per_s=settings.lookups_per_address_per_s,
        on_limit=metrics.on_limit,
    )
    access_tokens, rotation = AccessTokenStore(broker), SecretRotation(broker)
    token_uses = TokenUses(access_tokens)
    operators = OperatorCredentials(lookups, token_uses, EndedSessions(bucket, lookups, metrics.on_limit))
    credentials = Credentials(broker, lookups, desired, rotation, operators)
    sessions = Sessions(broker, credentials, life_s=settings.session_s, issuer=settings.oidc_issuer)
    return Identity(
        lookups=lookups,
        credentials=credentials,
        access_tokens=access_tokens,
        token_uses=token_uses,
        rotation=rotation,
        sessions=sessions,
        oidc=None if settings.oidc_issuer is None else Oidc(settings, sessions.key),
        enrollments=EnrollmentStore(broker),
        receipt_key=ReceiptKey(broker),
    )
