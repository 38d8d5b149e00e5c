"""Writes a report: one HTML page with all pictures, and the pictures as files beside it.

Synopsis:

  write_report({"source-only": workdir, "ALP-GI": other}, output, title="Toy cities", split="test")
"""

import functools
import logging
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from alp_jax.data import sources
from alp_jax.evaluation import figures, label_free
from alp_jax.evaluation.metrics import name_means
from alp_jax.report import charts, pictures
from alp_jax.report.page import Figure, Paragraph, Section, Table, render_page
from alp_jax.report.runs import ReportRun, read_runs
from alp_jax.settings.compare import flatten
from alp_jax.settings.schema import to_config
from alp_jax.workdir import files, outputs

logger = logging.getLogger(__name__)

FILE_NAME = "report.html"
_OUTPUTS = outputs.Kind(
    "a report",
    flag="",
    is_earlier=lambda folder: all(
        (folder / name).is_file() for name in (FILE_NAME, "predictions.png")
    ),
)


def write_report(
    workdirs: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    title: str,
    split: str | None = None,
    num_images: int = 4,
    sections: Sequence[Section] = (),
) -> pathlib.Path:
    """Evaluates the last checkpoints of runs, and writes the page and its pictures.

    Args:
      workdirs: name of a run -> its workdir; the baseline first, the run of interest last.
      output: folder for the files.
      title: title of the page.
      split: split to score and show; None takes the split of the first run's evaluation.
      num_images: number of images to show.
      sections: sections in front of the report's own.
    Returns:
      the path of the page.
    Raises:
      UserError: if a workdir holds no finished run, or the runs cannot be compared.
    """
    output = pathlib.Path(output).expanduser()
    runs = read_runs({name: pathlib.Path(path).expanduser() for name, path in workdirs.items()})
    split = split or str(runs[0].settings.evaluation.split)
    outputs.claim(output, _OUTPUTS)
    own = [
        _scores_and_confusion(runs, split, output),
        _predictions(runs, split, num_images, output),
        _entropy(runs, split, num_images, output),
        _curves(runs, output),
        _settings(runs),
    ]
    page = render_page(title, [*sections, *own])
    files.write_text(output / FILE_NAME, page)
    return output / FILE_NAME


def _save(picture: figures.Picture, output: pathlib.Path, stem: str) -> figures.Picture:
    safe = re.sub(r"[^A-Za-z0-9_.=-]+", "_", stem)
    files.write_bytes(output / f"{safe}.png", picture.light, durable=False)
    return picture


def _scores_and_confusion(runs: Sequence[ReportRun], split: str, output: pathlib.Path) -> Section:
    """Creates the section with scores, and the confusion matrices behind them (Figure 7)."""
    dataset = runs[0].settings.evaluation.dataset
    rows: dict[str, list[str]] = {}
    parts: list[Figure] = []
    for run in runs:
        logger.info("Evaluating %s on %s %s.", run.name, dataset, split)
        summary, confusion = run.score(split)
        scores = {
            **{head: summary[name] for name, head in name_means(summary).items()},
            **summary["iou_per_class"],
            "pixel accuracy": summary["pixel_accuracy"],
        }
        for name, score in scores.items():
            rows.setdefault(name, []).append("-" if score is None else f"{100 * score:.2f}")
        for name, criterion in label_free.CRITERIA.items():
            rows.setdefault(criterion.title, []).append(f"{summary[name]:.4f}")
        rows.setdefault("step", []).append(str(summary["step"]))
        if not summary["num_pixels"]:
            continue
        title = f"{run.name}: {dataset} {split}"
        draw = functools.partial(figures.draw_confusion, confusion, run.label_set, title)
        picture = figures.render(draw)
        parts.append(
            Figure(
                _save(picture, output, f"confusion_{run.name}"),
                f"{run.name}: row, the true class; column, the predicted one; colours are "
                "logarithmic (Figure 7 of the paper).",
                f"Confusion matrix of {run.name}.",
            )
        )
    note = f"IoU in percent on {dataset} {split}, after each run's last step."
    if not parts:
        note = (
            f"{dataset} {split} has no labelled pixel, so no scores: criteria after each run's "
            "last step."
        )
    heads = ["", *(run.name for run in runs)]
    scored = {name: cells for name, cells in rows.items() if set(cells) != {"-"}}
    table = Table(heads, [[name, *cells] for name, cells in scored.items()])
    return Section("Scores and confusion", [Paragraph(note), table, *parts])


def _predictions(
    runs: Sequence[ReportRun], split: str, count: int, output: pathlib.Path
) -> Section:
    dataset = runs[0].settings.evaluation.dataset
    panels = {run.name: pictures.predict(run, dataset, split, count=count) for run in runs}
    picture = figures.render(lambda: pictures.draw_predictions(panels, runs[0].label_set))
    figure = Figure(
        _save(picture, output, "predictions"),
        "Images of the target, the prediction of each run, and the label if there is one "
        "(Figures 4 and 5).",
        "Images with the predictions of each run.",
    )
    return Section("Predictions", [figure])


def _entropy(runs: Sequence[ReportRun], split: str, count: int, output: pathlib.Path) -> Section:
    """Creates the section with the entropy of the first and the last run (Figure 6)."""
    shown = list({run.name: run for run in (runs[0], runs[-1])}.values())
    data = runs[0].settings.data
    held_out = "validation" in sources.split_names(data.data_dir, data.source)
    source_split = "validation" if held_out else data.source_split
    pairs = max(count // 2, 1)
    source, target = (
        {run.name: pictures.predict(run, dataset, part, count=pairs) for run in shown}
        for dataset, part in (
            (data.source, source_split),
            (runs[0].settings.evaluation.dataset, split),
        )
    )
    picture = figures.render(lambda: pictures.draw_entropy(source, target))
    figure = Figure(
        _save(picture, output, "entropy"),
        f"Entropy of predictions on source images ({data.source} {source_split}) and target images "
        "(Figure 6): adaptation should lower it on the target.",
        "Entropy maps of source and target images.",
    )
    return Section("Entropy", [figure])


def _curves(runs: Sequence[ReportRun], output: pathlib.Path) -> Section:
    picture = figures.render(lambda: charts.draw_curves(runs))
    evaluation = runs[0].settings.evaluation
    figure = Figure(
        _save(picture, output, "curves"),
        f"Above, averages over {runs[0].settings.log_every_steps} steps; below, evaluations on "
        f"{evaluation.dataset} {evaluation.split}. All but mean IoU need no labels.",
        "Learning curves of each run.",
    )
    return Section("Curves", [figure])


def _settings(runs: Sequence[ReportRun]) -> Section:
    """Creates the section with the settings in which runs differ, and their workdirs."""
    flat = [flatten(to_config(run.settings)) for run in runs]
    names = sorted({name for fields in flat for name in fields})
    rows = [
        [name, *(str(fields.get(name, "-")) for fields in flat)]
        for name in names
        if len({str(fields.get(name, "-")) for fields in flat}) > 1
    ]
    rows.append(["workdir", *(str(run.workdir) for run in runs)])
    heads = ["field", *(run.name for run in runs)]
    return Section("Settings that differ", [Table(heads, rows)])
