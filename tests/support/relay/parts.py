"""Parts of a relay that a test builds by itself."""

from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_relay.desired.state import DesiredState
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.lookups import Lookups
from edge_relay.identity.operators.access_credentials import OperatorCredentials
from edge_relay.identity.operators.access_tokens import AccessTokenStore
from edge_relay.identity.operators.token_uses import TokenUses
from edge_relay.identity.rotation import SecretRotation


def credentials_of(broker: Broker, lookups: Lookups, desired: DesiredState | None = None) -> Credentials:
    """Credentials over a broker, which need not be connected."""
    rotation = SecretRotation(broker, Audit(broker, "tests"))
    operators = OperatorCredentials(lookups, TokenUses(AccessTokenStore(broker)))
    return Credentials(broker, lookups, desired or DesiredState(broker), rotation, operators)
