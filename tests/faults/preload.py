"""What commands import, once for all that are forked; no device is touched."""

from alp_jax.command import cli

cli.set_environment()

from alp_jax.report import writing  # noqa: E402, F401
from tests import tiny  # noqa: E402, F401
