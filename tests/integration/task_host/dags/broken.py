"""A DAG that cannot be imported here."""

# The module is missing on purpose.
import no_such_driver  # type: ignore[import-not-found]  # noqa: F401
