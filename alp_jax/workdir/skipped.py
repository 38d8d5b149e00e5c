"""Lists the corrupt records that a run skipped, in its workdir, and limits their number.

Synopsis:

  skipped = SkippedRecords(workdir, config.data)
  skipped.update(notes)         # one warning for each; UserError past config.data.max_bad_records
"""

import json
import logging
import pathlib
from collections.abc import Mapping

from alp_jax.data import sources
from alp_jax.data.samples import Notes, split_mixed
from alp_jax.data.settings import DataSettings
from alp_jax.errors import UserError, describe
from alp_jax.workdir import files

logger = logging.getLogger(__name__)

FILE_NAME = "skipped_records.json"


class SkippedRecords:
    """Distinct corrupt records over all starts of a run, in `skipped_records.json`."""

    def __init__(self, workdir: pathlib.Path, config: DataSettings, *, process: int = 0):
        """Reads the list of earlier starts.

        Args:
          workdir: folder of the run.
          config: `config.data`.
          process: number of this process; each process reads its own part of the data.
        Raises:
          UserError: if the file is damaged.
        """
        self._path = workdir / (f"{process}_{FILE_NAME}" if process else FILE_NAME)
        self._config = config
        self._seen: set[tuple[str, int]] = set()
        self._records: list[str] = []
        try:
            self._records = [str(record) for record in json.loads(self._path.read_text())]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{self._path} cannot be read ({describe(error)}): expected the list of corrupt "
                "records that training wrote; remove it, and they are counted afresh."
            ) from error

    def update(self, notes: Mapping[str, Notes]) -> None:
        """Adds the records that were replaced in a batch.

        Args:
          notes: domain -> notes of its batch.
        Raises:
          UserError: if there are more than `config.max_bad_records` in all.
        """
        for domain, noted in split_mixed(notes).items():
            for index in noted.skipped.tolist():
                if index >= 0 and (domain, index) not in self._seen:
                    self._seen.add((domain, index))
                    self._add(domain, index)

    def _add(self, domain: str, index: int) -> None:
        name, split, _ = self._config.domain(domain)
        record = sources.locate_record(self._config.data_dir, name, split, index)
        if record in self._records:
            return
        self._records.append(record)
        files.write_json(self._path, self._records)
        limit = self._config.max_bad_records
        if len(self._records) > limit:
            raise UserError(
                f"{len(self._records)} records are corrupt, more than the {limit} of "
                f"config.data.max_bad_records, the last of them {record}: prepare the dataset "
                f"again, or allow more; {self._path} lists them."
            )
        logger.warning(
            "Skipped a corrupt record: %s (%d of at most %d, listed in %s).",
            record,
            len(self._records),
            limit,
            self._path,
        )
