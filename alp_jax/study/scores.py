"""Holds the scores of a study, one record for each run, and stores them in a file.

Synopsis:

  study = Study(about, runs)
  save(study, workdir)          # study.json
  study = load(workdir)
  study.by_setting()["alp_gi"]  # its runs, in the order of their seeds
"""

import dataclasses
import pathlib
from typing import Any

from alp_jax.data.labels import load_label_set
from alp_jax.errors import UserError
from alp_jax.settings import upgrade
from alp_jax.workdir import config, files, outputs

FILE_NAME = "study.json"
STARTS = "starts"  # Folder of the runs that methods start from.


def _is_unmarked(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds a study, finished or not, of a version that left no mark."""
    if (folder / FILE_NAME).is_file():
        return True
    runs = (path.parent for path in folder.glob(f"*/*/{config.FILE_NAME}"))
    return any(config.is_unmarked_run(run) for run in runs)


STUDY = outputs.Kind("a study", flag="workdir", is_earlier=_is_unmarked, may_hold_links=True)

# Type of `alp_jax.evaluation.results.Evaluation.summary`.
Summary = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RunScores:
    """Scores of one finished run.

    Attributes:
      method: variant of the configuration, such as "alp_gi".
      value: value of the swept field, as in JSON; None if nothing is swept, or if the method does
        not use the field.
      seed: seed of the run; runs with the same seed started from the same weights, so they are
        pairs.
      workdir: folder of the run, relative to the study's.
      last: summary of the last step on the reported split.
      best: summary of the best checkpoint on the reported split, chosen by mean IoU on the
        evaluation split, so with target labels; None without labels.
      evaluations: summaries on the evaluation split during training, step 0 first; of an ensemble,
        only that of the last step.
      members: of an ensemble, the folder of each member, relative to the study's -> its weight in
        the mean; empty for a training.
      diverged: how the training failed, if its losses became infinite; it then has no scores, and
        `last` only says what should have been scored.
    """

    method: str
    value: Any
    seed: int
    workdir: str
    last: Summary
    best: Summary | None
    evaluations: tuple[Summary, ...]
    members: dict[str, float] = dataclasses.field(default_factory=dict)
    diverged: str = ""

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "RunScores":
        """Creates the scores from fields in JSON; raises TypeError or KeyError for wrong fields."""
        return cls(**fields | {"evaluations": tuple(fields["evaluations"])})

    def history(self, count: int) -> list[Summary]:
        """Returns the last `count` evaluations, never the one of step 0."""
        return [summary for summary in self.evaluations if summary["step"] > 0][-count:]


@dataclasses.dataclass(frozen=True)
class About:
    """Description of how a study was run.

    Attributes:
      command: the command line.
      config: path of the configuration file.
      overrides: flags that changed it.
      methods: methods in the order of the tables; a relative row compares the last with the first.
      label_set: `config.data.label_set`.
      classes: class names of the label set, in order.
      reports: keys of the label set's means over some of the classes, as in a summary.
      source: dataset of the labelled domain.
      dataset: dataset that was scored.
      evaluation_split, reported_split: splits scored during training, and at the end.
      sweep_field: dotted name of the swept field, or None.
      sweep_values: values of the swept field, in order, as in JSON.
      seeds: seeds, in order.
      versions: name of a package -> version; "commit" is the commit of the working tree.
      compared: settings whose differences are shown, each (first, second), as in first minus
        second; None: every two.
    """

    command: str
    config: str
    overrides: tuple[str, ...]
    methods: tuple[str, ...]
    label_set: str
    classes: tuple[str, ...]
    reports: tuple[str, ...]
    source: str
    dataset: str
    evaluation_split: str
    reported_split: str
    sweep_field: str | None
    sweep_values: tuple[Any, ...]
    seeds: tuple[int, ...]
    versions: dict[str, str]
    compared: tuple[tuple[str, str], ...] | None = None


@dataclasses.dataclass(frozen=True)
class Study:
    """Description and scores of a study; while it runs, the scores of its finished runs."""

    about: About
    runs: tuple[RunScores, ...]

    def by_setting(self) -> dict[str, list[RunScores]]:
        """Groups the runs that differ only in their seed: name of the setting -> runs by seed.

        Settings are in the order of the methods, then of the swept values.
        """
        about = self.about
        order = {method: index for index, method in enumerate(about.methods)}
        values = [None, *about.sweep_values]
        runs = sorted(
            self.runs, key=lambda run: (order[run.method], values.index(run.value), run.seed)
        )
        grouped: dict[str, list[RunScores]] = {}
        for run in runs:
            grouped.setdefault(self.setting_name(run.method, run.value), []).append(run)
        return grouped

    def setting_name(self, method: str, value: Any) -> str:
        """Names a setting: the method, with the value of the swept field if it uses that field."""
        if value is None or self.about.sweep_field is None:
            return method
        return f"{method}, {shorten_field(self.about.sweep_field)} {describe_value(value)}"


def shorten_field(field: str) -> str:
    """Takes the last part of a field's name, with the name of the term or view that it is of.

    "adversarial.weight" for "terms.adversarial.weight", for there is a weight in every term;
    "patch_size" for "terms.adversarial.patches.patch_size".
    """
    parts = field.split(".")
    is_of_block = len(parts) == 3 and parts[0] in ("terms", "views")
    return ".".join(parts[-2:] if is_of_block else parts[-1:])


def describe_value(value: Any) -> str:
    """Formats a field's value briefly: [32, 32] as 32x32."""
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _upgrade_about(fields: dict[str, Any]) -> dict[str, Any]:
    """Adds the label set to the fields of an older file, which only has the number of classes."""
    if "num_classes" not in fields:
        return fields
    name = upgrade.upgrade_label_set(fields["num_classes"])
    label_set = load_label_set(name)
    others = {key: value for key, value in fields.items() if key != "num_classes"}
    return {
        **others,
        "label_set": name,
        "classes": label_set.names,
        "reports": label_set.partial_reports(),
    }


def save(study: Study, workdir: pathlib.Path) -> pathlib.Path:
    """Writes `workdir/study.json`; returns its path."""
    path = workdir / FILE_NAME
    files.write_json(path, dataclasses.asdict(study))
    return path


def load(workdir: pathlib.Path) -> Study:
    """Reads the study that `save` wrote.

    Raises:
      UserError: if there is no study, none of its runs is finished, or its file is damaged.
    """
    path = workdir / FILE_NAME
    try:
        fields = files.from_json(path.read_text())
        about: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in _upgrade_about(fields["about"]).items()
        }
        if about.get("compared") is not None:
            about["compared"] = tuple((first, second) for first, second in about["compared"])
        return Study(About(**about), tuple(RunScores.from_dict(run) for run in fields["runs"]))
    except FileNotFoundError:
        if any(workdir.glob("*/seed_*")) or (workdir / STARTS).is_dir():
            raise UserError(
                f"The study in {workdir} was interrupted before the first of its runs was "
                "finished: expected scores to show; give its command again, which continues it."
            ) from None
        raise UserError(
            f"No study in {workdir}: expected {path}; give the --workdir of a study that was run."
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): expected the JSON that a study "
            "wrote; remove it and give the study's command again, which repeats no finished run."
        ) from error
