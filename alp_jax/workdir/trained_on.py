"""Remembers the datasets that a run reads, and notices when one of them is no longer the same.

Synopsis:

  check(settings, workdir, domains, accept_changes=False)   # before a run continues
  save(settings, workdir, domains)                          # data.json
  warn_if_changed(workdir, settings.data.data_dir, dataset, split)    # before an evaluation

A dataset may be prepared anew under its name. `data.json` holds the fingerprint of each
(`alp_jax.data.digests`) as the run read it, and what a user has accepted since.
"""

import json
import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from alp_jax.data import digests
from alp_jax.errors import UserError, describe
from alp_jax.workdir import checkpoint, files
from alp_jax.workdir.settings import RunSettings

logger = logging.getLogger(__name__)

FILE_NAME = "data.json"
_EVALUATION = "evaluation"
_DOMAINS, _ACCEPTED = "datasets", "accepted_changes"
Content = dict[str, Any]


def check(
    settings: RunSettings,
    workdir: pathlib.Path,
    domains: Sequence[str],
    *,
    accept_changes: bool = False,
) -> None:
    """Refuses to continue a run on a domain whose dataset was changed since the run read it.

    A changed dataset that is evaluated gives a warning, and so does a change that is accepted.

    Args:
      settings: of the run.
      workdir: of the run.
      domains: domains that the run trains on.
      accept_changes: whether to go on with the data as they are now.
    Raises:
      UserError: if a domain's dataset was changed, or `data.json` is damaged.
    """
    if not checkpoint.list_steps(workdir):
        return
    content = _read(workdir)
    if content is None:
        logger.info(
            "The run in %s was started by a version that did not note its data: they are noted "
            "as they are now, and were not compared.",
            workdir,
        )
        return
    for role, name, split, now in _list_now(settings, domains):
        change = _compare(content, workdir, role, name, split, now)
        if not change:
            continue
        if role == _EVALUATION:
            logger.warning("%s: scores before and after are not comparable.", change)
        elif accept_changes:
            logger.warning("%s: the run goes on with the data as they are now.", change)
        else:
            raise UserError(
                f"{change}: restore that dataset, start anew in another --workdir, or go on with "
                "the data as they are now with --accept_changed_data, which is noted in "
                f"{workdir / FILE_NAME}."
            )


def save(settings: RunSettings, workdir: pathlib.Path, domains: Sequence[str]) -> None:
    """Writes the fingerprints of the run's datasets, and the changes that `check` let pass.

    Raises:
      UserError: if the file cannot be written.
    """
    steps = checkpoint.list_steps(workdir)
    before = (_read(workdir) if steps else None) or {_DOMAINS: {}, _ACCEPTED: []}
    accepted = list(before[_ACCEPTED])
    datasets = {}
    for role, name, split, now in _list_now(settings, domains):
        change = _compare(before, workdir, role, name, split, now)
        if change:
            then = before[_DOMAINS][role]
            accepted.append({"step": max(steps), "change": change, "before": then})
            if digests.is_lost(then, now):
                now = {**now, "digest": then["digest"]}
        datasets[role] = {"dataset": name, "split": split, **now}
    content = {_DOMAINS: datasets, _ACCEPTED: accepted}
    if content == before:
        return
    try:
        files.write_json(workdir / FILE_NAME, content, indent=2)
    except OSError as error:
        raise UserError(
            f"Cannot write to the workdir {workdir} ({describe(error)}): give a --workdir that you "
            "may write to."
        ) from error


def warn_if_changed(workdir: pathlib.Path, data_dir: str, name: str, split: str) -> None:
    """Warns if a dataset that a run read is evaluated and is no longer the same.

    Args:
      workdir: of the run.
      data_dir, name, split: of the dataset that is evaluated.
    """
    content = _read(workdir)
    now = digests.read_fingerprint(data_dir, name, split)
    if content is None or now is None:
        return
    for role in content[_DOMAINS]:
        change = _compare(content, workdir, role, name, split, now)
        if change:
            logger.warning("%s: its scores are not comparable with earlier ones.", change)
            return


def warn_of_start(start: pathlib.Path, data_dir: str) -> None:
    """Warns if a start was trained on a dataset that was prepared anew since.

    Args:
      start: workdir of the start (`config.init_from`).
      data_dir: folder of all prepared datasets.
    """
    content = _read(start)
    for role, then in (content or {_DOMAINS: {}})[_DOMAINS].items():
        name, split = then.get("dataset", ""), then.get("split", "")
        now = digests.read_fingerprint(data_dir, name, split)
        change = now and _compare(content or {}, start, role, name, split, now)
        if change and role != _EVALUATION:
            logger.warning(
                "%s: the weights of that run know it as it was; train it again, in another "
                "workdir, if that matters.",
                change,
            )


def _list_now(
    settings: RunSettings, domains: Sequence[str]
) -> Iterator[tuple[str, str, str, digests.Fingerprint]]:
    """Yields (role, dataset, split, fingerprint) of the datasets of a run that are there."""
    data, evaluated = settings.data, settings.evaluation
    roles = [(domain, *data.domain(domain)[:2]) for domain in domains]
    for role, name, split in [*roles, (_EVALUATION, evaluated.dataset, evaluated.split)]:
        found = digests.read_fingerprint(data.data_dir, name, split)
        if found is not None:
            yield role, name, split, found


def _compare(
    content: Content,
    workdir: pathlib.Path,
    role: str,
    name: str,
    split: str,
    now: digests.Fingerprint,
) -> str:
    """Returns the first half of a sentence about a change; "" if there is none."""
    then = content[_DOMAINS].get(role)
    if then is None or (then.get("dataset"), then.get("split")) != (name, split):
        return ""
    try:
        change = digests.describe_change(then, now)
        what = "lost its digests" if digests.is_lost(then, now) else "was prepared anew"
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(workdir, error) from error
    field = "config.evaluation.dataset" if role == _EVALUATION else f"config.data.{role}"
    since = f"since the run in {workdir} read it"
    return f"{field}, {name}:{split}, {what} {since} ({change})" if change else ""


def _read(workdir: pathlib.Path) -> Content | None:
    path = workdir / FILE_NAME
    try:
        content = json.loads(path.read_text())
        return {_DOMAINS: dict(content[_DOMAINS]), _ACCEPTED: list(content[_ACCEPTED])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(workdir, error) from error


def _damaged(workdir: pathlib.Path, error: Exception) -> UserError:
    return UserError(
        f"{workdir / FILE_NAME} cannot be read ({describe(error)}): expected the fingerprints of "
        "the run's datasets that training wrote; restore it, or move it away, and they are noted "
        "as they are now."
    )
