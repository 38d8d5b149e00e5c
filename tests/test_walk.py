"""Which files are taken: the walker, patterns, names of any bytes, hidden and identical copies."""

import contextlib
import io
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alp_jax.data import opening, walk
from alp_jax.data.frames import find_frames
from alp_jax.data.image_files import ImageError
from alp_jax.data.patterns import split_pattern
from alp_jax.errors import UserError, printable
from data_prep.image_folder import COMMAND as IMAGE_FOLDER
from data_prep.raw.files import RawFiles
from data_prep.raw.identical import describe_identical, find_identical
from tests import pictures
from tests.commands import ROOT
from tests.data_prep import raw_files as raw

PNG = raw.png(raw.rgb(0, 8, 8))


def list_paths(listing: walk.Listing) -> list[str]:
    return [file.path for file in listing.files]


def list_passed_over(listing: walk.Listing) -> dict[str, str]:
    return {one.path: one.kind for one in listing.passed_over}


def test_files_come_before_subfolders_and_sizes_are_theirs(tmp_path):
    raw.write(tmp_path, {"b/c.png": b"12", "b/a/d.png": b"", "a.png": b"1", "z.txt": b""})
    listing = walk.walk(tmp_path)
    assert list_paths(listing) == ["a.png", "z.txt", "b/c.png", "b/a/d.png"]
    assert [file.num_bytes for file in listing.files] == [1, 0, 2, 0]
    assert listing.passed_over == []


def test_links_are_followed_and_a_folder_is_listed_once_under_its_own_name(tmp_path):
    raw.write(tmp_path, {"elsewhere/x.png": b"", "in/real/y.png": b"", "in/a/b/z.png": b""})
    inside = tmp_path / "in"
    for link, target in {
        "ahead": "real",
        "out": "../elsewhere",
        "again": "../elsewhere",
        "a/b/loop": "../..",
        "self": ".",
        "above": "..",
        "file.png": "../elsewhere/x.png",
        "gone": "nowhere",
        "round": "round",
    }.items():
        (inside / link).symlink_to(target)
    listing = walk.walk(inside)
    assert list_paths(listing) == ["file.png", "a/b/z.png", "again/x.png", "real/y.png"]
    assert list_passed_over(listing) == {
        "a/b/loop": walk.KNOWN_FOLDER,
        "above": walk.KNOWN_FOLDER,
        "ahead": walk.KNOWN_FOLDER,
        "gone": walk.BROKEN_LINK,
        "out": walk.KNOWN_FOLDER,
        "round": walk.UNREADABLE,
        "self": walk.KNOWN_FOLDER,
    }
    reasons = {one.path: one.reason for one in listing.passed_over}
    assert reasons["ahead"] == "is the same folder as real"
    assert reasons["above"] == "is the same folder as one that holds it"


def test_what_is_no_file_is_named(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # The path of a socket must be short.
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        listing = walk.walk(tmp_path)
    reasons = {one.path: one.reason for one in listing.passed_over}
    assert reasons == {
        "pipe": "is neither a file nor a folder (pipe)",
        "socket": "is neither a file nor a folder (socket)",
    }


@pytest.mark.parametrize("name", ["closed", "closed/deeper"])
def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch, name):
    raw.write(tmp_path, {f"{name}/a.png": b"", "b.png": b""})
    scandir = os.scandir

    def refuse(path: str) -> object:  # root may open any folder.
        if path == os.path.join(tmp_path, name):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = walk.walk(tmp_path)
    assert list_paths(listing) == ["b.png"]
    (one,) = listing.passed_over
    assert (one.path, one.kind) == (name, walk.UNREADABLE)
    assert one.reason == "cannot be opened (Permission denied)"


HIDDEN = [
    ".ipynb_checkpoints/a-checkpoint.png", ".thumbnails/a.png", ".Trash/a.png", "@eaDir/a.png",
    "__MACOSX/a.png", "._a.png", ".git/objects/a.png", ".a.png", "$RECYCLE.BIN/a.png",
    "day/.ipynb_checkpoints/a.png", "lost+found/a.png", "#recycle/a.png",
]  # fmt: skip


def test_hidden_copies_are_not_taken_by_any_command(tmp_path, capsys):
    files = dict.fromkeys(HIDDEN, PNG) | {"day/a.png": PNG, "b.png": PNG}
    raw.write(tmp_path / "in", files)
    found = [file.path.relative_to(tmp_path / "in").as_posix() for file in
             find_frames(tmp_path / "in").files]  # fmt: skip
    assert found == ["b.png", "day/a.png"]
    pattern = [frame.name for frame in find_frames(f"{tmp_path}/in/**/*.png")]
    assert pattern == ["b", "day/a"]
    raw.write_zip(tmp_path / "in" / "more.zip", dict.fromkeys([*HIDDEN, "c/d.png"], PNG))
    listed = {str(file) for _, file in RawFiles(tmp_path / "in").find_all(r"(?P<name>.+)\.png")}
    assert listed == {"b.png", "day/a.png", "more.zip:c/d.png"}
    arguments = [f"--images={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}", "--workers=1"]
    for flag, status in (("--check", 0), ("--nocheck", 0)):
        assert IMAGE_FOLDER.main(["", "--name=a", *arguments, flag]) == status
        output = capsys.readouterr().out
        assert f"Passed over, hidden: {2 * len(HIDDEN)} (#recycle, $RECYCLE.BIN, " in output
        assert "3 images" in output


@pytest.mark.parametrize("root", [".hidden", ".hidden/in", ".ipynb_checkpoints", "__MACOSX"])
def test_a_folder_that_is_hidden_itself_is_read(tmp_path, root):
    raw.write(tmp_path / root, {"a.png": PNG, ".b.png": PNG})
    assert [frame.name for frame in find_frames(tmp_path / root)] == ["a"]
    assert [str(file) for file in RawFiles(tmp_path / root).others()] == ["a.png"]


def test_a_pattern_searches_as_the_walker_does(tmp_path):
    raw.write(tmp_path, {"day/a.png": PNG, "day/deep/b.png": PNG, "night/c.png": PNG, "d.jpg": PNG})
    (tmp_path / "link").symlink_to("day")
    (tmp_path / "loop").symlink_to(".")

    def names(pattern: str) -> list[str]:
        return [frame.name for frame in find_frames(f"{tmp_path}/{pattern}")]

    assert names("**/*.png") == ["day/a", "day/deep/b", "night/c"]
    assert names("*/*.png") == ["day/a", "night/c"]
    assert names("[dn]*/?.png") == ["day/a", "night/c"]
    assert names("day/**") == ["a", "deep/b"]
    assert names("link/*.png") == ["a"]
    found = find_frames(f"{tmp_path}/*")
    assert [frame.name for frame in found] == ["d"]
    assert walk.count_passed_over(found.passed_over) == [
        "folders that the pattern does not search: 4 (day, link, loop, night)"
    ]


@pytest.mark.parametrize(
    ("pattern", "path", "matches", "may_match_below"),
    [
        ("*.png", "a.png", True, False), ("*.png", "a/b.png", False, False),
        ("**/*.png", "a/b/c.png", True, True), ("**/*.png", "c.png", True, True),
        ("a*/**/b.png", "ab/b.png", True, True), ("a*/**/b.png", "b/b.png", False, False),
        ("*/*", "a", False, True), ("a*/x/*.png", "ab/y", False, False), ("**", "a/b", True, True),
    ],
)  # fmt: skip
def test_patterns(pattern, path, matches, may_match_below):
    root, parsed = split_pattern(f"in/{pattern}")
    assert root == pathlib.Path("in")
    parts = walk.split(path)
    assert (parsed.matches(parts), parsed.may_match_below(parts)) == (matches, may_match_below)


# Names -------------------------------------------------------------------------------------------

NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
# A file, a link to a place in the tree, or a folder with more of these.
TREES = st.recursive(
    st.one_of(st.just("file"), st.tuples(st.just("link"), st.integers(0, 30)), st.just("pipe")),
    lambda below: st.dictionaries(NAMES, below, max_size=4),
    max_leaves=12,
)


def build(folder: bytes, tree: dict, made: list[bytes]) -> None:
    """Writes a tree; links lead to anything that was made before, also to folders above."""
    made.append(folder)
    for name, below in tree.items():
        path = os.path.join(folder, name)
        if isinstance(below, dict):
            os.mkdir(path)
            build(path, below, made)
        elif below == "pipe":
            os.mkfifo(path)
        elif below == "file":
            with open(path, "wb") as file:
                file.write(name)
        else:
            os.symlink(made[below[1] % len(made)] if below[1] % 5 else b"nowhere", path)
        made.append(path)


@settings(
    max_examples=60 if settings.default.max_examples <= 200 else settings.default.max_examples
)
@given(st.dictionaries(NAMES, TREES, max_size=5))
@example({b"a\xff\n.png": "file", b"d": {b"up": ("link", 1), b"\x1b[2J": "file"}})
@example({b"z": {b"x": "file"}, b"a": ("link", 2), b"b": ("link", 2), b".h": {b"x": "file"}})
def test_every_file_is_listed_once_or_is_below_what_is_named(tree):
    folder = os.path.realpath(tempfile.mkdtemp())
    try:
        root = os.path.join(os.fsencode(folder), b"root")
        os.mkdir(root)
        build(root, tree, [])
        listing = walk.walk(os.fsdecode(root))
        assert listing == walk.walk(os.fsdecode(root))
        paths = list_paths(listing)
        named = list_passed_over(listing)
        assert len({*paths, *named}) == len(paths) + len(named)
        real = {os.path.realpath(os.path.join(os.fsdecode(root), path)) for path in paths}
        for here, _, names in os.walk(root):  # No links to folders.
            for name in names:
                path = os.path.relpath(os.path.join(here, name), root)
                text = os.fsdecode(path)
                above = {text, *map(str, pathlib.PurePath(text).parents)}
                if os.path.islink(os.path.join(here, name)) and os.path.isdir(
                    os.path.join(here, name)
                ):
                    continue
                assert (text in paths) != bool(above & named.keys())
        for path in paths:
            assert os.path.isfile(os.path.join(os.fsdecode(root), path))
        assert all(not walk.is_hidden(part) for path in paths for part in walk.split(path))
        assert len(real) <= len(paths)
        for line in walk.count_passed_over(listing.passed_over):
            assert line.isprintable()
    finally:
        shutil.rmtree(os.fsencode(folder))


@given(st.lists(st.text(st.characters() | st.characters(categories=["Cs"])), unique=True))
@example(["\\xff", "\udcff", "a\nb", "\x80", "\udc80", "\\", "\\\\"])
def test_printable_names_are_one_line_and_stay_different(names):
    shown = [printable(name) for name in names]
    assert len(set(shown)) == len(names)
    for text in shown:
        text.encode()
        assert text.isprintable()


ODD_NAMES = [
    b"caf\xe9", b"line\nbreak", b"\x1b[31mred", b"tab\t", "Straße 街".encode(), b"per%cent:colon",
    b"\xff\xfe", b"back\\slash", b"-dash", b" space ", b"qu'ote\"",
]  # fmt: skip


def write_odd(folder: pathlib.Path, data: bytes = PNG) -> list[str]:
    """Writes an image for each odd name; returns the names."""
    folder.mkdir(parents=True)
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(folder), name + b".png"), "wb") as file:
            file.write(data)
    return sorted(map(os.fsdecode, ODD_NAMES))


def test_a_name_that_is_not_utf_8_is_refused_by_preparation_in_one_sentence(tmp_path, capsys):
    write_odd(tmp_path / "in")
    arguments = [f"--images={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}", "--workers=1"]
    assert IMAGE_FOLDER.main(["", "--name=a", *arguments]) == 2
    (error,) = capsys.readouterr().err.splitlines()[-1:]
    assert error.startswith(r"error: caf\xe9.png has a name that is not UTF-8: rename it")
    assert IMAGE_FOLDER.main(["", "--name=a", *arguments, "--check"]) == 1
    output = capsys.readouterr().out
    assert "Names that no record can hold: 2" in output
    assert r"\xff\xfe.png has a name" in output
    assert IMAGE_FOLDER.main(["", "--name=a", *arguments, "--skip_bad"]) == 0
    examples = raw.read(tmp_path / "data", "image_folder/a", "train", labelled=False)
    kept = [name for name in ODD_NAMES if name not in (b"caf\xe9", b"\xff\xfe")]
    assert sorted(examples) == sorted(name.decode() for name in kept)


def check_odd_names(printed: bytes) -> None:
    assert rb"line\nbreak.png cannot be decoded" in printed
    assert rb"\u001b[31mred.png cannot be decoded" in printed
    found = [printed.count(text) for text in (b"cannot be decoded (", b"has a name that is not")]
    assert sum(found) == len(ODD_NAMES)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "shift_jis", "utf-8"])
def test_odd_names_are_printed_in_any_encoding(tmp_path, encoding):
    write_odd(tmp_path / "in", b"no image")
    printed = io.BytesIO()
    stdout = io.TextIOWrapper(printed, encoding=encoding, errors="strict")
    arguments = [f"--images={tmp_path / 'in'}", "--name=a", "--workers=1", "--check"]
    with contextlib.redirect_stdout(stdout):
        assert IMAGE_FOLDER.main(["", *arguments]) == 1
        stdout.flush()
        check_odd_names(printed.getvalue())


def test_odd_names_are_printed_where_names_are_ascii(tmp_path):
    write_odd(tmp_path / "in", b"no image")
    command = [sys.executable, "-m", "data_prep.image_folder", "--name=a", "--check", "--workers=1",
               f"--images={tmp_path / 'in'}"]  # fmt: skip
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 1, done.stderr
    assert b"Traceback" not in done.stderr
    check_odd_names(done.stdout)


def test_members_of_a_zip_file_with_odd_names(tmp_path, capsys):
    members = {"a\nb.png": PNG, "\x1b[31m.png": PNG, "ä/街.png": PNG, "__MACOSX/._x.png": PNG}
    raw.write_zip(tmp_path / "in" / "z.zip", members)
    arguments = [f"--images={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}", "--workers=1"]
    assert IMAGE_FOLDER.main(["", "--name=a", *arguments]) == 0
    examples = raw.read(tmp_path / "data", "image_folder/a", "train", labelled=False)
    assert sorted(examples) == sorted(["a\nb", "\x1b[31m", "ä/街"])
    assert "Passed over, hidden: 1 (z.zip:__MACOSX)." in capsys.readouterr().out
    data = (tmp_path / "in" / "z.zip").read_bytes()
    broken = data.replace("ä/街.png".encode(), b"\xff/\xfe\xfe\xfe.png\xfe")
    (tmp_path / "in" / "z.zip").write_bytes(broken)
    with pytest.raises(UnicodeDecodeError):
        zipfile.ZipFile(tmp_path / "in" / "z.zip")
    with pytest.raises(UserError, match=r"z\.zip holds names that are not UTF-8, although it says"):
        RawFiles(tmp_path / "in")


# Content -----------------------------------------------------------------------------------------


def test_identical_files_are_found_inside_and_outside_zip_files(tmp_path):
    long = bytes(100_000)
    files = {
        "a.png": PNG, "b/a.png": PNG, "c.png": PNG[:-1] + b"!", "long1": long + b"1",
        "long2": long + b"2", "long3": long + b"1",
    }  # fmt: skip
    raw.write(tmp_path, files)
    raw.write_zip(tmp_path / "z.zip", {"d.png": PNG, "e.png": PNG[:-1] + b"?"})
    listed = RawFiles(tmp_path).others()
    groups = [sorted(map(str, group)) for group in find_identical([*listed, *listed])]
    assert sorted(groups) == [["a.png", "b/a.png", "z.zip:d.png"], ["long1", "long3"]]
    (line,) = describe_identical(listed)
    assert line == (
        "3 images have the content of another: a.png = b/a.png = z.zip:d.png, long1 = long3."
    )
    assert describe_identical(listed[:1]) == []


def test_files_of_different_sizes_are_not_read(tmp_path, monkeypatch):
    raw.write(tmp_path, {f"{number}.png": bytes(number) for number in range(50)})
    listed = RawFiles(tmp_path).others()
    monkeypatch.setattr(pathlib.Path, "open", None)
    assert find_identical(listed) == []


def test_preparation_and_check_say_that_images_are_identical(tmp_path, capsys):
    raw.write(tmp_path / "in", {"a.png": PNG, "copy of a.png": PNG, "b.png": raw.png(raw.rgb(1))})
    arguments = [f"--images={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}", "--workers=1"]
    for flag in ("--check", "--nocheck"):
        assert IMAGE_FOLDER.main(["", "--name=a", *arguments, flag]) == 0
        said = "1 image has the content of another: a.png = copy of a.png."
        assert said in capsys.readouterr().out


def test_preparation_lists_what_it_does_not_read(tmp_path, capsys):
    raw.write(tmp_path / "in", {"a.png": PNG, "b.heic": b"", "c.NEF": b"", "notes.txt": b""})
    (tmp_path / "in" / "gone.png").symlink_to("nowhere")
    arguments = [f"--images={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}", "--workers=1"]
    assert IMAGE_FOLDER.main(["", "--name=a", *arguments, "--skip_bad"]) == 0
    output = capsys.readouterr().out
    assert "Other files, which are not read: 3 (b.heic, c.NEF, notes.txt)." in output
    assert "Passed over, links to nothing: 1 (gone.png)." in output


@pytest.mark.parametrize("name", pictures.SEVERAL)
def test_a_file_with_several_pictures_is_no_image_of_a_dataset(tmp_path, name):
    pictures.save_pictures(tmp_path / name, 3)
    with pytest.raises(ImageError, match="holds 3 pictures, of which only one could be"):
        opening.open_image((tmp_path / name).read_bytes())


def test_preparation_refuses_a_file_with_several_pictures(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    pictures.save_pictures(tmp_path / "in" / "c.tif", 3)
    arguments = [f"--images={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}", "--workers=1"]
    assert IMAGE_FOLDER.main(["", "--name=a", *arguments]) == 2
    assert "error: c.tif holds 3 pictures, of which only one" in capsys.readouterr().err


def test_a_name_in_a_zip_file_and_outside_is_read_once_and_told(tmp_path):
    raw.write(tmp_path, {"a.png": PNG, "b.png": PNG})
    raw.write_zip(tmp_path / "more.zip", {"b.png": PNG[:-1], "c.png": PNG})
    files = RawFiles(tmp_path)
    found = [str(file) for _, file in files.find_all(r"(?P<name>.+)\.png")]
    assert found == ["a.png", "b.png", "more.zip:c.png"]
    (line,) = files.describe_rest()
    assert line == "In a zip file and outside of it, and read there: 1 (more.zip:b.png)."
