"""Parts of a relay that a test builds by itself."""

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.desired.state import DesiredState
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.lookups import Lookups
from edge_relay.identity.operators.access_credentials import OperatorCredentials
from edge_relay.identity.operators.access_tokens import AccessTokenStore
from edge_relay.identity.operators.ended_sessions import EndedSessions
from edge_relay.identity.operators.token_uses import TokenUses
from edge_relay.identity.rotation import SecretRotation
from edge_relay.limits.kinds import ignore


def credentials_of(broker: Broker, lookups: Lookups, desired: DesiredState | None = None) -> Credentials:
    """Credentials over a broker, which need not be connected."""
    rotation = SecretRotation(broker)
    ended = EndedSessions(Bucket(broker, ACCESS_BUCKET), lookups, ignore)
    operators = OperatorCredentials(lookups, TokenUses(AccessTokenStore(broker)), ended)
    return Credentials(broker, lookups, desired or DesiredState(broker), rotation, operators)
