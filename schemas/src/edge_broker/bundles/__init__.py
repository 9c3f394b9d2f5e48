"""Published bundles in NATS: the store of pieces and manifests, and the bucket that says which versions there are."""
