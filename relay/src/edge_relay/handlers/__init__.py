"""HTTP handlers: parse, call one thing, reply."""
