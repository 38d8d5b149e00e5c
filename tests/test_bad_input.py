"""What a user can get wrong: each ends in one sentence and an exit status, and loses nothing."""

import dataclasses
import io
import json
import os
import pathlib
import shutil
import socket
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

from alp_jax.workdir import locks
from tests import tiny
from tests.commands import call
from tests.data_prep import raw_files
from tests.faults import command, disks

NOBODY = 65534


class Place:
    """Where a case happens.

    Attributes:
      folder: of the case, empty.
      data_dir: the tiny dataset, not to be changed.
      config: flag of the tiny run's configuration.
      workdir: of the case.
    """

    def __init__(self, folder: pathlib.Path, data_dir: pathlib.Path, finished: pathlib.Path):
        self.folder, self.data_dir, self._finished = folder, data_dir, finished
        self.workdir = folder / "run"
        self.config = command.write_config(folder, data_dir)

    def train(
        self, *flags: str, workdir: pathlib.Path | None = None, method: str = ""
    ) -> list[str]:
        """Flags of a training of 6 steps."""
        workdir = workdir or self.workdir
        config = f"{self.config}:{method}" if method else self.config
        return [
            config,
            f"--workdir={workdir}",
            "--config.model.backbone.batch_norm_mode=running",
            *flags,
        ]

    def finished(self) -> pathlib.Path:
        """A workdir with a finished run of 6 steps: checkpoints 3, 4 and 6; 3 and 6 evaluated."""
        shutil.copytree(self._finished, self.workdir)
        return self.workdir

    def write(self, name: str, text: str) -> pathlib.Path:
        """Writes a Python file."""
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path

    def data(self) -> pathlib.Path:
        """A copy of the dataset; returns the folder of its source."""
        shutil.copytree(self.data_dir / "tiny", self.folder / "data" / "tiny")
        return self.folder / "data" / "tiny" / "source" / "1.0.0"

    def train_on_data(self, *flags: str) -> list[str]:
        """Flags of a training on that copy."""
        return self.train(f"--config.data.data_dir={self.folder / 'data'}", *flags)


Prepare = Callable[[Place], list[str]]


@dataclasses.dataclass(frozen=True)
class Case:
    """What is wrong.

    Attributes:
      prepare: makes it so, and returns the command's arguments.
      message: part of the one sentence.
      module: the command.
      uid: the user who gives it; 0 as the tests.
      alone: whether the command has a process of its own.
    """

    prepare: Prepare
    message: str
    module: str = "alp_jax.main"
    uid: int = 0
    alone: bool = False


def flags(*given: str) -> Prepare:
    return lambda place: place.train(*given)


def flip(path: pathlib.Path, position: int = 20) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def damage_checkpoints(workdir: pathlib.Path, *steps: int) -> None:
    for step in steps:
        flip(workdir / "checkpoints" / str(step) / "_METADATA")


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG file of a few bytes that says it is 60,000 pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


# Flags and configuration -------------------------------------------------------------------------

PATCHES = "--config.terms.adversarial.patches"
CONFIG_CASES = {
    "unknown variant": Case(
        lambda place: ["--config=configs/toy_cities.py:alp", f"--workdir={place.workdir}"],
        "Unknown variant 'alp' (did you mean alp_gi?): expected one of",
    ),
    "no such configuration": Case(
        lambda place: ["--config=configs/none.py", f"--workdir={place.workdir}"],
        "There is no configuration configs/none.py: expected a Python file",
    ),
    "configuration that is not Python": Case(
        lambda place: broken_config(place, "def get_config(:\n"), "invalid syntax"
    ),
    "configuration that raises": Case(
        lambda place: broken_config(place, "def get_config():\n    return {}['x']\n"), "'x'"
    ),
    "unknown field": Case(
        flags("--config.data.batchsize=2"), "Unknown field config.data.batchsize (did you mean"
    ),
    "text for a number": Case(
        flags("--config.seed=many"), "--config.seed is 'many': expected a whole number."
    ),
    "unknown mode": Case(flags("--mode=trian"), "trian"),
    "unknown flag": Case(flags("--steps=3"), "Unknown command line flag 'steps'"),
    "an argument": Case(flags("extra"), "Unexpected argument 'extra'"),
    "no workdir": Case(lambda place: [place.config], "Give --workdir"),
    "no configuration": Case(lambda place: [f"--workdir={place.workdir}"], "Training needs --conf"),
    "a patch larger than the map": Case(
        flags(f"{PATCHES}.patch_size=99,99"), "a patch inside the source map of 32x48"
    ),
    "a patch too small": Case(flags(f"{PATCHES}.patch_size=2,2"), "expected at least 8x8"),
    "a field that another method has": Case(
        lambda place: place.train(f"{PATCHES}.num_patches=2", method="agp_gi"),
        "Unknown field config.terms.adversarial.patches.num_patches: config.terms.adversarial.pat",
    ),
    "a term that another method has": Case(
        lambda place: place.train("--config.terms.adversarial.weight=1", method="source_only"),
        "Unknown field config.terms.adversarial: config.terms has cross_entropy.",
    ),
    "a field of a field": Case(flags("--config.seed.x=1"), "config.seed is a value, not a block"),
    "another kind on the command line": Case(
        flags(f"{PATCHES}.kind=whole"), "config.terms.adversarial.patches, of the kind 'whole', has"
    ),
    "a field of an earlier version": Case(
        flags("--config.objective.patch_size=16,16"), "Unknown field config.objective"
    ),
    "no image in a batch": Case(flags("--config.data.batch_size=0"), "expected at least 1"),
    "negative seed": Case(flags("--config.seed=-1"), "config.seed is -1: expected at least 0"),
    "a rate that is no number": Case(
        flags("--config.optimizer.segmenter_learning_rate=nan"), "segmenter_learning_rate is nan"
    ),
    "a rate without end": Case(
        flags("--config.optimizer.segmenter_learning_rate=inf"), "segmenter_learning_rate is inf"
    ),
    "a label set there is not": Case(
        flags("--config.data.label_set=cityscapes_18"),
        "config.data.label_set is 'cityscapes_18': expected one of camvid_11, cityscapes_13",
    ),
    "a label set file there is not": Case(
        flags("--config.data.label_set=nowhere.yaml"), "There is no label set file nowhere.yaml"
    ),
    "momentum 1": Case(flags("--config.optimizer.momentum=1.0"), "at least 0 and below 1"),
    "a domain there is not": Case(
        flags("--config.views.target.domain=both"), "config.views.target.domain is 'both': expect"
    ),
    "rates that end before the run": Case(
        flags("--config.optimizer.horizon_steps=2"), "at least num_steps (6)"
    ),
}


def broken_config(place: Place, text: str) -> list[str]:
    (place.folder / "broken.py").write_text(text)
    return [f"--config={place.folder / 'broken.py'}", f"--workdir={place.workdir}"]


# Methods, terms and views of one's own ------------------------------------------------------------

METHOD = """
    from alp_jax.objective.settings import term, view

    def apply(config):
        config.views.source = view("images", domain="source")
        config.terms.cross_entropy = term("cross_entropy")
        {line}
"""


def own_method(text: str) -> Prepare:
    """A method file with this text."""
    return lambda place: place.train(method=str(place.write("my_method.py", text)))


def method_with(line: str) -> Prepare:
    """A method file that is right but for one line."""
    return own_method(METHOD.format(line=line))


def own_term(text: str) -> Prepare:
    """A method with a term from a file with this text."""

    def prepare(place: Place) -> list[str]:
        path = place.write("my_term.py", text)
        return method_with(f"config.terms.mine = term({str(path)!r})")(place)

    return prepare


OWN_CASES = {
    "a method there is not": Case(
        lambda place: place.train(method="/nowhere/my_method.py"),
        "The method is '/nowhere/my_method.py': no such file; expected one of a_plus_e, ",
    ),
    "a method without apply": Case(own_method("x = 1"), "my_method.py has no function apply"),
    "a method that is not Python": Case(
        own_method("def apply(config:"), "my_method.py cannot be imported, line 1 (SyntaxError"
    ),
    "a method that raises": Case(
        method_with("config.view.mine = 1"),
        "apply of {folder}/my_method.py fails, line 7 (AttributeError: 'view'): mend that file.",
    ),
    "a kind there is not": Case(
        method_with("config.terms.mine = term('entrpy')"),
        "my_method.py, line 7: The kind of a term is 'entrpy' (did you mean entropy?): expected",
    ),
    "a kind there is not, on the command line": Case(
        flags(f"{PATCHES}.kind=hole"),
        "adversarial.patches.kind is 'hole' (did you mean whole?): expected one of",
    ),
    "a typo in a term's field": Case(
        method_with("config.terms.cross_entropy.wieght = 2.0"),
        "Unknown field config.terms.cross_entropy.wieght (did you mean weight?)",
    ),
    "a typo in a term's argument": Case(
        method_with("config.terms.mine = term('cross_entropy', wieght=2.0)"),
        "line 7: Unknown field cross_entropy.wieght (did you mean weight?): cross_entropy has damp",
    ),
    "a wrong value of a term's field": Case(
        method_with("config.terms.cross_entropy.weight = 'much'"),
        "my_method.py fails, line 7 (TypeError: Could not override field 'weight'",
    ),
    "a name that no flag reaches": Case(
        method_with("config.terms['my term'] = term('cross_entropy')"),
        "The name of a block in config.terms is 'my term': expected letters",
    ),
    "a view there is not": Case(
        method_with("config.terms.mine = term('cross_entropy', view='mixed')"),
        "config.terms.mine reads the view mixed, which config.views lacks: expected one of source",
    ),
    "shares of other classes": Case(
        lambda place: place.train(
            "--config.terms.class_ratio.class_shares=0.5,0.5", method="minent_cp"
        ),
        "config.terms.class_ratio.class_shares is [0.5, 0.5]: expected the share of each of the 16",
    ),
    "a regulariser without labels": Case(
        method_with(
            "config.views.target = view('images', domain='target'); "
            "config.terms.mine = term('model_regularizer', view='target')"
        ),
        "config.terms.mine.view is 'target': expected a view with labels: source.",
    ),
    "soft labels that a view lacks": Case(
        method_with("config.terms.mine = term('soft_cross_entropy', view='source')"),
        "config.terms.mine.view is 'source': expected a view whose samples have soft labels of",
    ),
    "more frequencies than there are": Case(
        lambda place: place.train(
            "--config.views.source.beta=0.49", "--config.data.target_size=16,24", method="fda"
        ),
        "config.views.source.beta is 0.49: expected a square of 31x31 frequencies (side 2 floor(",
    ),
    "one head for both": Case(
        method_with("config.terms.mine = term('weight_cosine', other_head='main')"),
        "config.terms.mine.other_head is 'main': expected another head than config.terms.mine.head",
    ),
    "an aligned head twice": Case(
        method_with(
            "config.terms.mine = term('alignment', target_view='source', head='main+main')"
        ),
        "config.terms.mine.head is 'main+main': expected each head once.",
    ),
    "a grid finer than the map": Case(
        lambda place: place.train(f"{PATCHES}.rows=900", method="road"),
        "config.terms.adversarial.patches.rows is 900: expected at most ",
    ),
    "a discriminator for each random patch": Case(
        lambda place: place.train("--config.terms.adversarial.discriminators=per_patch"),
        "config.terms.adversarial.discriminators is 'per_patch': expected shared, as these patches",
    ),
    "pixel weights without two heads": Case(
        method_with(
            "from alp_jax.objective.settings import pixel_weights as w; "
            "config.terms.mine = term('alignment', target_view='source'); "
            "config.terms.mine.pixel_weights = w('disagreement')"
        ),
        "config.terms.mine.pixel_weights.kind is 'disagreement': expected two heads joined by +",
    ),
    "a discrepancy that is no term": Case(
        method_with(
            "from alp_jax.objective.settings import updates; "
            "config.updates = updates('maximum_discrepancy')"
        ),
        "config.updates.discrepancy is 'discrepancy': expected the name of one of at least two te",
    ),
    "a term file there is not": Case(
        method_with("config.terms.mine = term('/nowhere/my_term.py')"),
        "The kind of a term is '/nowhere/my_term.py': no such file",
    ),
    "a term file without TERM": Case(
        own_term("class Mine: pass"), "expected {folder}/my_term.py to end with TERM = CLASS"
    ),
    "a term that raises on import": Case(
        own_term("x = 1 / 0"), "my_term.py cannot be imported, line 1 (ZeroDivisionError"
    ),
    "a term that is none": Case(
        own_term("class Mine: pass\n\nTERM = Mine"),
        "expected a file whose class inherits from alp_jax.objective.types.Term, and Mine in",
    ),
    "a term that is not whole": Case(
        own_term("from alp_jax.objective.types import Term\n\nclass M(Term): pass\n\nTERM = M"),
        "my_term.py lacks loss, views: write what its base class asks for",
    ),
}


# Data --------------------------------------------------------------------------------------------


def damaged_description(place: Place) -> list[str]:
    (place.data() / "dataset_info.json").write_text("{")
    return place.train_on_data()


def damaged_records(place: Place) -> list[str]:
    (records,) = place.data().glob("*train*array_record*")
    data = bytearray(records.read_bytes())
    data[100:-1000] = bytes(len(data) - 1100)
    records.write_bytes(data)
    return place.train_on_data("--config.data.max_bad_records=3")


def missing_records(place: Place) -> list[str]:
    next(place.data().glob("*train*array_record*")).unlink()
    return place.train_on_data()


class Written(tiny.Tiny):
    """Two records that hold what nobody checked."""

    fields: ClassVar[dict[str, bytes]] = {}

    def _generate_examples(self, first: int, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(2):
            example = tiny.make_example(index)
            files = {name: tiny.encode(example[name]) for name in ("image", "label")}
            yield index, {**files, **self.fields, "name": f"{index}"}


def written_records(place: Place, **fields: bytes) -> list[str]:
    place.data()
    Written.fields = fields
    builder = Written(config="source", data_dir=place.folder / "data", file_format="array_record")
    builder.download_and_prepare()
    return place.train_on_data("--config.data.source=written/source")


DATA_CASES = {
    "no dataset": Case(flags("--config.data.data_dir=/nowhere"), "No prepared dataset at /nowhere"),
    "no such split": Case(
        flags("--config.data.source_split=all"), "has no split 'all': expected one of test, train"
    ),
    "a target with labels": Case(
        flags("--config.data.target=tiny/target"), "a target domain must be read without them"
    ),
    "a source without labels": Case(
        flags("--config.data.source=tiny/target_unlabelled"),
        "tiny/target_unlabelled:train (config.data.source) has no labels, only the features image,",
    ),
    "a slice beyond its split": Case(
        flags("--config.data.target_split=train[:200]"),
        "reaches beyond the split: expected at most what there is, train (10 images); give another "
        "config.data.target_split",
    ),
    "a slice that is none": Case(
        flags("--config.evaluation.split=test[:x]"), "is no split and no slice of one"
    ),
    "a source without a labelled pixel": Case(
        lambda place: written_records(place, label=tiny.encode(np.full((32, 48), 255, np.uint8))),
        "None of the last 6 batches has a pixel with a class",
    ),
    "no evaluation dataset": Case(
        flags("--config.evaluation.dataset=tiny/none"), "No prepared dataset at"
    ),
    "a damaged description": Case(damaged_description, "The description of dataset"),
    "damaged records": Case(damaged_records, "array_record"),
    "missing records": Case(missing_records, "tiny/source:train"),
    "a label value that no class has": Case(
        lambda place: written_records(place, label=tiny.encode(np.full((32, 48), 77, np.uint8))),
        "holds the value 77: expected Cityscapes label ids",
    ),
    "an image that unpacks to gigabytes": Case(
        lambda place: written_records(place, image=bomb()), "of written/source:train (number"
    ),
    "an image that is none": Case(
        lambda place: written_records(place, image=b"<html>404</html>"),
        "written/source:train (number",
    ),
}


# Workdirs, checkpoints and weights ---------------------------------------------------------------


def without_scores(place: Place, summary: dict[str, Any] | None) -> list[str]:
    """Makes every evaluation of the run have this summary, or removes them; asks for the best."""
    for path in (place.workdir / "evaluation").glob("step_*.json"):
        if summary is None:
            path.unlink()
        else:
            path.write_text(json.dumps(summary))
    return evaluate("--checkpoint=best")(place)


def damage(*steps: int, then: Prepare) -> Prepare:
    def prepare(place: Place) -> list[str]:
        damage_checkpoints(place.finished(), *steps)
        return then(place)

    return prepare


def finished(then: Prepare) -> Prepare:
    return damage(then=then)


def evaluate(*given: str) -> Prepare:
    return lambda place: ["--mode=evaluate", f"--workdir={place.workdir}", *given]


def overwrite(name: str, text: str, then: Prepare) -> Prepare:
    def prepare(place: Place) -> list[str]:
        (place.finished() / name).write_text(text)
        return then(place)

    return prepare


def start_from_finished(*given: str) -> Prepare:
    return lambda place: place.train(
        f"--config.init_from={place.workdir}", *given, workdir=place.folder / "other"
    )


def as_file(place: Place) -> list[str]:
    place.workdir.write_text("a file")
    return place.train()


CONTINUE = flags("--config.num_steps=7")
ALL = (3, 4, 6)
RUN_CASES = {
    "a workdir of another run": Case(
        finished(flags("--config.seed=1")), "holds another run: config.seed is 0 there and 1 here"
    ),
    "a workdir that is a file": Case(as_file, "run is a file: give a new or"),
    "a damaged configuration": Case(overwrite("config.json", "{", CONTINUE), "cannot be read"),
    "a configuration nested without end": Case(
        overwrite("config.json", "[" * 100_000, CONTINUE), "config.json cannot be read"
    ),
    "a damaged log of metrics": Case(
        overwrite("metrics.jsonl", "no JSON\n", CONTINUE), "Line 1 of"
    ),
    "no whole checkpoint": Case(damage(*ALL, then=CONTINUE), "is whole: 6 (_METADATA is not as"),
    "no whole checkpoint to evaluate": Case(damage(*ALL, then=evaluate()), "put back a copy"),
    "the best checkpoint without labels": Case(
        finished(lambda place: without_scores(place, {"mean_iou": None, "dataset": "own/target"})),
        "(the best has the highest mean IoU, and the run was evaluated on own/target, which has no "
        "labels to score by): it holds 3, 4, 6; give --checkpoint=latest, or one of these steps.",
    ),
    "the best checkpoint of what was never scored": Case(
        finished(lambda place: without_scores(place, None)),
        "(the best has the highest mean IoU in an evaluation, and none was evaluated): it holds 3,",
    ),
    "no such checkpoint": Case(finished(evaluate("--checkpoint=5")), "No checkpoint '5' in"),
    "no name of a checkpoint": Case(
        finished(evaluate("--checkpoint=last")), "expected latest, best or the number of a step"
    ),
    "a damaged best checkpoint": Case(
        damage(*ALL, then=evaluate("--checkpoint=best")), "is damaged (_METADATA is not as it was"
    ),
    "a damaged checkpoint by number": Case(
        damage(3, then=evaluate("--checkpoint=3")), "or another step; the others are 4, 6"
    ),
    "nothing to evaluate": Case(evaluate(), "No run in"),
    "images without a place for predictions": Case(
        lambda place: ["--mode=predict", f"--workdir={place.workdir}", "--input=frames"],
        "Predicting needs --input, images, and --output",
    ),
    "a flag of another mode": Case(
        finished(lambda place: ["--mode=report", f"--workdir={place.workdir}", "--flip"]),
        "--flip is given with --mode=report",
    ),
    "an input of another mode": Case(
        lambda place: ["--mode=evaluate", f"--workdir={place.workdir}", "--input=frames"],
        "--input is given with --mode=evaluate: expected --mode=predict.",
    ),
    "a field without a configuration": Case(
        lambda place: [f"--workdir={place.workdir}", "--config.num_steps=3"],
        "--config.num_steps=3 overrides a field of no configuration: also give --config=FILE",
    ),
    "a field that evaluation does not read": Case(
        finished(lambda place: [*evaluate()(place), "--config.num_steps=3"]),
        "--config.num_steps=3 changes nothing in an evaluation: expected fields of config.data",
    ),
    "a field that evaluation needs as it is": Case(
        finished(lambda place: [*evaluate()(place), "--config.data.target_size=64,64"]),
        "holds another run: config.data.target_size is [32, 48] there and [64, 64] here",
    ),
    "a field there is not, in evaluation": Case(
        finished(lambda place: [*evaluate()(place), "--config.data.data_dri=x"]),
        "Unknown field config.data.data_dri (did you mean data_dir?)",
    ),
    "a field of a run, in prediction": Case(
        lambda place: ["--mode=predict", f"--workdir={place.workdir}", "--input=a", "--output=b",
                       "--config.data.data_dir=x"],
        "--config.data.data_dir is given with --mode=predict: expected --mode=train or --mode=ev",
    ),
    "fewer steps than the run has": Case(
        finished(flags("--config.num_steps=5")),
        "is at step 6, and config.num_steps is 5: give at least 6, or another --workdir",
    ),
    "weights of an ensemble of one": Case(
        finished(evaluate("--ensemble_weights=1")), "Weights of an ensemble are given, and no other"
    ),
    "a scale that is no number": Case(
        finished(evaluate("--scales=1,big")), "--scales is '1,big': expected numbers"
    ),
    "a configuration of a newer version": Case(
        overwrite("config.json", '{"format": 3}', CONTINUE), "its format is 3, and this version"
    ),
    "no split to evaluate": Case(finished(evaluate("--split=no")), "has no split 'no'"),
    "predictions into a file": Case(
        finished(lambda place: [*evaluate()(place), f"--predictions={place.workdir}/config.json"]),
        "is a file: give a new or an empty folder",
    ),
    "no run to start from": Case(flags("--config.init_from=/nowhere"), "where no run is"),
    "a start of another network": Case(
        finished(start_from_finished("--config.model.backbone.widths=12,12")),
        "belong to config.model.backbone.widths [8, 8], and this run has [12, 12]: set",
    ),
    "a damaged start": Case(damage(*ALL, then=start_from_finished()), "is whole: 6 (_METADATA"),
    "nothing to replay": Case(
        finished(lambda place: ["--mode=replay", f"--workdir={place.workdir}"]), "No replay file"
    ),
    "a damaged replay": Case(
        overwrite(
            "replay.npz", "PK", lambda place: ["--mode=replay", f"--workdir={place.workdir}"]
        ),
        "replay.npz is damaged",
    ),
    "nothing to compare with": Case(
        finished(lambda place: [
            "--mode=report", f"--workdir={place.workdir}", f"--compare={place.folder}",
        ]),
        "No run in",
    ),
}  # fmt: skip


# Other commands ----------------------------------------------------------------------------------


def folder_with(name: str, data: bytes, *given: str) -> Prepare:
    """Arguments of data_prep.image_folder on a folder with a whole image and another file."""

    def prepare(place: Place) -> list[str]:
        for folder in ("images", "labels"):
            (place.folder / folder).mkdir()
            pixels = raw_files.png(
                raw_files.rgb(1)[:, :, 0] if folder == "labels" else raw_files.rgb(1)
            )
            (place.folder / folder / "1.png").write_bytes(pixels)
        path = place.folder / name
        path.write_bytes(data)
        return [
            "--name=own", f"--images={place.folder / 'images'}", "--workers=1",
            f"--data_dir={place.folder / 'datasets'}",
            *(flag.format(folder=place.folder) for flag in given),
        ]  # fmt: skip

    return prepare


def slip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../images/2.png", raw_files.png(raw_files.rgb(2)))
    return buffer.getvalue()


MAP = ("--labels={folder}/labels", "--label_map={folder}/map.yaml")
IMAGES, WEIGHTS, STUDY = "data_prep.image_folder", "data_prep.convert_weights", "alp_jax.study"


def weights(data: bytes) -> Prepare:
    def prepare(place: Place) -> list[str]:
        (place.folder / "weights.pth").write_bytes(data)
        return [f"--input={place.folder / 'weights.pth'}", f"--output={place.workdir}"]

    return prepare


COMMAND_CASES = {
    "a zip file that leads out of its folder": Case(
        folder_with("images/more.zip", slip()), "'../../images/2.png', which leads out", IMAGES
    ),
    "an image file that unpacks to gigabytes": Case(
        folder_with("images/2.png", bomb()), "3,600 megapixels, more than the 89 that", IMAGES
    ),
    "a label map that runs code": Case(
        folder_with("map.yaml", b"7: !!python/object/apply:os.getcwd []\n", *MAP),
        "map.yaml is not yaml",
        IMAGES,
    ),
    "a label map nested without end": Case(
        folder_with("map.yaml", b"[" * 20_000, *MAP), "map.yaml is not yaml", IMAGES
    ),
    "a label map of no class": Case(
        folder_with("map.yaml", b"7: 3\n", *MAP), "map.yaml gives 7 the class 3", IMAGES
    ),
    "weights that run code": Case(
        weights(b"\x80\x04cposix\nsystem\n(S'true'\ntR."), "weights.pth", WEIGHTS
    ),
    "weights that are cut short": Case(weights(b"PK\x03\x04"), "cannot be read", WEIGHTS),
    "no weights": Case(
        lambda place: ["--input=/nowhere.pth", f"--output={place.workdir}"], "/nowhere.pth", WEIGHTS
    ),
    "a sweep of no field": Case(
        lambda place: [
            "--config=configs/toy_cities.py",
            f"--workdir={place.workdir}",
            "--sweep=patchsize:1",
        ],
        "patchsize",
        STUDY,
    ),
    "a study without configuration": Case(
        lambda place: [f"--workdir={place.workdir}"], "A study needs --config", STUDY
    ),
    "a report of no study": Case(
        lambda place: ["--mode=report", f"--workdir={place.workdir}"], "study", STUDY
    ),
}

CASES = {**CONFIG_CASES, **OWN_CASES, **DATA_CASES, **RUN_CASES, **COMMAND_CASES}


@pytest.fixture
def place(tmp_path, data_dir, trained_run) -> Place:
    return Place(tmp_path, data_dir, trained_run.workdir)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def saved(workdir: pathlib.Path) -> dict[str, bytes]:
    """Checkpoints and scores."""
    found = contents(workdir) if workdir.is_dir() else {}
    return {
        name: data
        for name, data in found.items()
        if name.startswith(("checkpoints/", "evaluation/"))
    }


def refuse(place: Place, case: Case) -> str:
    """Runs a case; its one sentence."""
    arguments = case.prepare(place)
    before = saved(place.workdir)
    if case.alone or case.uid:
        log_file = place.folder / "log"
        status, log = command.run(arguments, log_file, module=case.module, uid=case.uid)
    else:
        done = call(case.module, *arguments)
        status, log = done.returncode, done.stdout + done.stderr
    assert "Traceback" not in log
    assert status == 2, log
    errors = [line for line in log.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, log
    assert case.message.format(folder=place.folder) in errors[0], errors[0]
    assert saved(place.workdir).items() >= before.items()  # Nothing that was saved is lost.
    return errors[0]


def test_there_are_many():
    assert len(CASES) >= 85


@pytest.mark.parametrize("name", CASES)
def test_wrong_input_ends_in_one_sentence_and_loses_nothing(place, name):
    refuse(place, CASES[name])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_workdir_of_another_user_is_one_sentence(place):
    """As another user, for root may write everywhere."""
    place.finished()
    for folder in (place.folder, *place.folder.parents):
        if folder.owner() == "root" and folder != pathlib.Path("/tmp"):
            folder.chmod(0o755)
    (place.folder / "log").touch()
    (place.folder / "log").chmod(0o666)
    refuse(
        place,
        Case(CONTINUE, "(Permission denied): give a folder with enough", uid=NOBODY),
    )


def test_a_read_only_disk_is_one_sentence(place):
    workdir = place.finished()
    with disks.read_only(workdir):
        refuse(place, Case(CONTINUE, "(Read-only file system): give a --workdir"))
        message = refuse(place, Case(evaluate(), "(Read-only file system)"))
    assert "The evaluation of step 6 cannot be written" in message


def test_a_full_disk_at_the_start_is_one_sentence(place):
    with disks.small(place.folder, kilobytes=200) as disk:
        disks.fill(disk / "ballast")
        place.workdir = disk / "run"
        refuse(place, Case(flags(), "(No space left on device)", alone=True))


def test_a_full_disk_at_the_last_save_is_one_sentence_and_keeps_the_checkpoint(place):
    finished_workdir = place.finished()
    # Without pictures of the profiler, which are large.
    shutil.rmtree(finished_workdir / "plugins")
    with disks.small(place.folder, kilobytes=2500) as disk:
        shutil.copytree(finished_workdir, disk / "run")
        place.workdir = disk / "run"
        disks.fill(disk / "ballast")
        with (disk / "ballast").open("r+b") as ballast:
            ballast.truncate((disk / "ballast").stat().st_size - 150_000)
        refuse(place, Case(CONTINUE, "(No space left on device)", alone=True))
        assert (disk / "run" / "checkpoints" / "6").is_dir()


def test_a_workdir_in_use_is_one_sentence(place):
    place.finished()
    with locks.hold(place.workdir):
        refuse(place, Case(CONTINUE, f"in use by process {os.getpid()} on {socket.gethostname()}"))


def test_what_was_refused_is_taken_once_it_is_put_right(place):
    """The one before a damaged checkpoint is used, by the command that was refused with none."""
    workdir = place.finished()
    good = (workdir / "checkpoints" / "4" / "_METADATA").read_bytes()
    damage_checkpoints(workdir, *ALL)
    refuse(place, Case(evaluate(), "No checkpoint in"))
    (workdir / "checkpoints" / "4" / "_METADATA").write_bytes(good)
    done = call("alp_jax.main", *evaluate()(place))
    assert done.returncode == 0, done.stderr
    assert "6 is damaged (_METADATA is not as it was saved): using that of step 4" in done.stderr
    assert (workdir / "evaluation" / "step_4.json").exists()
