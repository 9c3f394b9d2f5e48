"""`edge-relay doctor`: names the layer that keeps the relay from serving, and says what to do.

It looks with the relay's own settings, as the relay's NATS user, and changes nothing: it may run before the relay's
first start and beside it. No finding holds a secret.
"""
