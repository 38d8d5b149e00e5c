"""The report of runs: a page without a network, with whole pictures and escaped names."""

import base64
import dataclasses
import html.parser
import io
import json
import pathlib
import shutil

import pytest
from PIL import Image

from alp_jax.data import sources
from alp_jax.errors import UserError
from alp_jax.evaluation.figures import Picture
from alp_jax.report import charts, page, pictures, runs, writing
from alp_jax.workdir.settings import build_settings
from tests import tiny
from tests.commands import call, read_error

PIXEL = io.BytesIO()
Image.new("RGB", (1, 1)).save(PIXEL, format="png")
PICTURE = Picture(PIXEL.getvalue(), PIXEL.getvalue())


class Collector(html.parser.HTMLParser):
    """Tags and their attributes, and all text; checks that every tag is closed."""

    VOID = ("meta", "source", "img")

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def pictures(self) -> list[str]:
        return [a.get("src") or a["srcset"] for tag, a in self.tags if tag in ("img", "source")]


@pytest.fixture(scope="module")
def workdirs(trained_run, source_only_run, tmp_path_factory) -> dict[str, pathlib.Path]:
    """Runs by name, in folders that are called like them."""
    folder = tmp_path_factory.mktemp("runs")
    found = {"source_only": source_only_run, "<script>alp": trained_run}
    for name, run in found.items():
        shutil.copytree(run.workdir, folder / name)
    return {name: folder / name for name in found}


@pytest.fixture(scope="module")
def report(workdirs) -> pathlib.Path:
    """The page that the command writes into the second workdir."""
    source_only, alp = workdirs.values()
    result = call(
        "alp_jax.main",
        "--mode=report",
        f"--workdir={alp}",
        f"--compare={source_only}",
        "--split=test",
    )
    assert result.returncode == 0, result.stderr
    return alp / "report" / "report.html"


def test_the_page_needs_nothing_else(report):
    collected = Collector(report.read_text())
    assert "script" not in {tag for tag, _ in collected.tags}
    links = [a["href"] for tag, a in collected.tags if tag == "a"]
    ids = {a.get("id") for _, a in collected.tags}
    assert links
    assert all(link is not None and link.startswith("#") and link[1:] in ids for link in links)
    for uri in collected.pictures():
        kind, _, data = uri.partition(",")
        assert kind == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(data))).load()
    assert all(a.get("alt") for tag, a in collected.tags if tag == "img")


def test_every_figure_is_there_for_light_and_dark_and_beside_the_page(report):
    collected = Collector(report.read_text())
    assert len(collected.pictures()) == 2 * 5  # Two confusions, predictions, entropy, curves.
    assert len(set(collected.pictures())) == 10
    assert {path.name for path in report.parent.glob("*.png")} == {
        "confusion_source_only.png",
        "confusion__script_alp.png",
        "predictions.png",
        "entropy.png",
        "curves.png",
    }
    assert "<script>alp: row, the true class" in collected.text
    assert "source_only, <script>alp" in collected.text


def test_the_scores_are_those_of_the_split(report, workdirs):
    (run, _) = runs.read_runs(workdirs)
    summary, _ = run.score("test")
    assert f"{100 * summary['mean_iou']:.2f}" in Collector(report.read_text()).text
    assert summary["split"] == "test"


def test_fields_in_which_runs_differ_are_listed(report):
    text = Collector(report.read_text()).text
    assert "terms.adversarial.patches.patch_size" in text
    assert "optimizer.momentum" not in text
    assert "None" not in text  # Of a field that a run lacks.


def test_the_pictures_are_of_the_chosen_images_only(workdirs):
    run = runs.read_runs(workdirs)[0]
    panels = pictures.predict(run, "tiny/target", "test", count=3)
    source = sources.open_source(
        run.settings.data.data_dir, "tiny/target", "test", label_set=run.label_set
    )
    assert [panel.name for panel in panels] == [source[i]["name"] for i in (0, 3, 6)]
    assert panels[0].prediction.shape == (tiny.HEIGHT, tiny.WIDTH)
    assert len(pictures.predict(run, "tiny/target", "test", count=50)) == tiny.NUM_EVAL


def test_a_target_without_labels_has_pictures_and_no_scores(workdirs, tmp_path):
    """A run's evaluation may be another after it was trained; its scores are then not there."""
    shutil.copytree(workdirs["source_only"], tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    fields = json.loads(path.read_text())
    fields["evaluation"] |= {"dataset": "tiny/target_unlabelled", "split": "train"}
    path.write_text(json.dumps(fields))
    path = writing.write_report({"run": tmp_path / "run"}, tmp_path / "report", title="t")
    collected = Collector(path.read_text())
    assert (
        "has no labelled pixel, so no scores: criteria after each run's last step."
        in collected.text
    )
    assert "information maximisation (0 to 1)" in collected.text
    assert "sidewalk" not in collected.text
    assert len(collected.pictures()) == 2 * 3
    with pytest.raises(UserError, match=r"evaluation\.dataset .* expected the same, to compare"):
        runs.read_runs({"a": tmp_path / "run", "b": workdirs["source_only"]})


def test_everything_that_is_given_is_escaped():
    bad = '<b x="1">&'
    parts = [
        page.Paragraph(bad),
        page.Paragraph(bad, code=True),
        page.Table([bad, bad], [[bad, bad]]),
        page.Figure(PICTURE, bad, bad),
    ]
    collected = Collector(page.render_page(bad, [page.Section(bad, parts)]))
    assert "b" not in {tag for tag, _ in collected.tags}
    assert collected.text.count(bad) == 2 + 2 + 2 + 4 + 1  # Title, heading, text, cells, caption.
    assert [a["alt"] for tag, a in collected.tags if tag == "img"] == [bad]


def test_damaged_metrics_are_named(workdirs, tmp_path):
    run = runs.read_runs(workdirs)[0]
    (tmp_path / "config.json").write_text((run.workdir / "config.json").read_text())
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
        runs.read_runs({"a": tmp_path})
    assert dataclasses.is_dataclass(run)


def test_a_folder_without_a_run_ends_in_one_sentence(tmp_path):
    result = call("alp_jax.main", "--mode=report", f"--workdir={tmp_path / 'none'}")
    assert "No run in" in read_error(result)


@pytest.fixture
def curves(trained_run, source_only_run):
    """A run with two heads' terms, without its numbers, and one of a single term."""
    settings = build_settings(tiny.get_config(trained_run.config.data.data_dir, "advent"))
    (run,) = runs.read_runs({"source_only": source_only_run.workdir})
    advent = dataclasses.replace(run, name="advent", settings=settings)
    return charts.draw_curves([run, advent])


def test_a_flat_curve_has_plain_numbers_at_its_ticks(source_only_run):
    (run,) = runs.read_runs({"source_only": source_only_run.workdir})
    flat = tuple({"step": step, "mean_iou": 0.5 + 1e-8 * step} for step in (1, 2))
    figure = charts.draw_curves([dataclasses.replace(run, evaluations=flat)])
    figure.canvas.draw()
    (axis,) = [axis for axis in figure.axes if axis.get_title().startswith("mean IoU")]
    assert axis.yaxis.get_offset_text().get_text() == ""
    assert all(len(tick.get_text()) <= 6 for tick in axis.get_yticklabels())


def test_curves_are_those_of_the_terms_four_in_a_row(curves):
    shown = [axis.get_title() for axis in curves.axes]
    assert shown == [
        "cross-entropy, source (nats)", "cross-entropy, source, aux head (nats)",
        "adversarial loss (nats)", "discriminator's loss (nats)",
        "discriminator's accuracy (%)", "adversarial loss, aux (nats)",
        "discriminator's loss, aux (nats)", "discriminator's accuracy, aux (%)",
        "mean IoU (%), uses labels", "mean entropy (0 to 1)",
        "soft neighbourhood density (nats)", "information maximisation (0 to 1)",
    ]  # fmt: skip
    assert [text.get_text() for text in curves.legends[0].get_texts()] == ["source_only", "advent"]
    assert len(curves.axes[0].get_lines()) >= 2
    assert "not logged" in curves.axes[2].texts[0].get_text()
