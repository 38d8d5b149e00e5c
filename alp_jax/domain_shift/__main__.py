"""Tells whether local alignment suits a pair of domains, and which patch size.

python -m alp_jax.domain_shift --config=configs/domain_shift.py:toy_cities --output=runs/shift

Trains a classifier to distinguish source and target label maps, on whole maps and on random patches
of several sizes: Figure 1 of Cicek et al., ACCV 2020. This reads labels of the target, so it is an
analysis of domains, not a part of adaptation. The same command continues an interrupted experiment.
"""

import logging
import pathlib
import time

from absl import flags

from alp_jax.command import cli, configuration
from alp_jax.errors import UserError

logger = logging.getLogger(__name__)

_CONFIG = configuration.define(
    "Python file with get_config(), and after a colon its variant: configs/domain_shift.py:gta5. "
    "Override a field with --config.FIELD=VALUE.",
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Folder for domain_shift.csv, .json and .png. Finished curves in it are kept; patch sizes and "
    "runs may be added.",
)


def main() -> None:
    """Runs the experiment that the flags describe, and prints the advice."""
    cli.check_overrides()
    if _CONFIG.value is None:
        raise UserError(
            "The experiment needs --config: for example "
            "--config=configs/domain_shift.py:toy_cities."
        )
    if _OUTPUT.value is None:
        raise UserError("Give --output, the folder of the figure: for example --output=runs/shift.")
    # Imported here so that --help and wrong flags answer at once.
    from alp_jax.devices.summary import summarise_devices
    from alp_jax.domain_shift import experiment, report

    output = pathlib.Path(_OUTPUT.value).expanduser()
    logger.info(summarise_devices())
    started = time.monotonic()
    result = experiment.run_experiment(_CONFIG.value, output)
    report.print_summary(result)
    print(result.advice)
    logger.info(
        "Finished in %.0f s. Figure and numbers: %s",
        time.monotonic() - started,
        output / f"{report.FILE_STEM}.png",
    )


if __name__ == "__main__":
    cli.run(main)
