"""Notes what a dataset was prepared from, and compares it with what is asked for later.

Synopsis:

  request = make_request(config, selection, options)
  for change in list_changes(read_request(directory), request): ...    # "12 images more in train"

The file `request.json` of a dataset holds the label map, the options, and for each pair the sizes,
times and digests of its files. A file that has its size, times and inode is taken for unchanged;
one that has only its size, because the folder was copied for example, or its content was changed
and its time set back, is read and compared by its digest.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from alp_jax.data.digests import digest
from alp_jax.errors import UserError, describe, shorten
from alp_jax.workdir import files
from data_prep.common.datasets import REQUEST_FILE
from data_prep.common.text import count
from data_prep.raw.files import RawFile
from data_prep.raw.layout import Layout, Pair, Selection

_OF_ONE_SPLIT = {"every"}  # Flags in which the splits of a dataset may differ.
RECIPE = 1  # To be raised whenever the records of the same files change.
_LISTED = 3


@dataclasses.dataclass
class Source:
    """One raw file, or one in an archive, whose times and inode stand for it.

    Attributes:
        num_bytes: its size.
        time: when its content was changed, in nanoseconds, as programs can set it.
        digest: of its content.
        inode_time: when it was changed in any way, in nanoseconds; 0 in earlier requests.
        inode: its number in the file system.
    """

    num_bytes: int
    time: int
    digest: str = ""
    inode_time: int = 0
    inode: int = 0

    @property
    def stamp(self) -> tuple[int, int, int]:
        """What is the same as long as nobody touches the file."""
        return self.time, self.inode_time, self.inode


Sources = tuple[Source, Source | None]  # Of an image and its label.


@dataclasses.dataclass
class Request:
    """What a dataset is prepared from.

    Attributes:
        folder: the raw folder.
        recipe: version of the conversion.
        options: flag -> value, of flags that change the records and were given.
        meanings: label value or colour -> class, of the user's label map.
        splits: split -> name of a pair -> its files.
        left_out: number of files that were left out, because something is wrong with them.
    """

    folder: str
    recipe: int = RECIPE
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    meanings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    splits: dict[str, dict[str, Sources]] = dataclasses.field(default_factory=dict)
    left_out: int = 0

    def note_digests(self, split: str, name: str, digests: Sequence[str]) -> None:
        """Notes the digests of the files of a pair, which was read."""
        for source, found in zip(self.splits[split][name], digests, strict=False):
            if source is not None:
                source.digest = found

    def write(self, folder: pathlib.Path) -> None:
        """Writes the request into the folder of its dataset."""
        fields = dataclasses.asdict(self)
        files.write_text(folder / REQUEST_FILE, files.to_json(fields) + "\n")

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Creates a request from what `write` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it is something else.
        """
        splits = {
            split: {
                name: (Source(**image), None if label is None else Source(**label))
                for name, (image, label) in pairs.items()
            }
            for split, pairs in fields["splits"].items()
        }
        return cls(**{**fields, "splits": splits})


def read_request(folder: pathlib.Path) -> Request | None:
    """Reads the request of a dataset; None if an earlier version prepared it.

    Raises:
        UserError: if the file is damaged.
    """
    path = folder / REQUEST_FILE
    try:
        return Request.from_fields(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}, which says what the dataset was prepared from, is damaged "
            f"({describe(error)}): write the dataset anew with --replace."
        ) from error


def make_request(
    folder: str | os.PathLike[str],
    layout: Layout,
    selection: Selection,
    options: Mapping[str, str],
) -> Request:
    """Creates the request of a configuration, without reading the files.

    Args:
        folder: the raw folder.
        layout: of the configuration.
        selection: the pairs of files.
        options: flag -> value, of flags that change the records and were given.
    """
    stamp_archive = functools.cache(_stamp)

    def look_at(file: RawFile) -> Source:
        if file.archive:
            time, inode_time, inode = stamp_archive(file.root / file.archive)
        else:
            time, inode_time, inode = _stamp(file.root / file.path)
        return Source(file.num_bytes, time, inode_time=inode_time, inode=inode)

    splits = {
        split: {
            pair.name: (look_at(pair.image), None if pair.label is None else look_at(pair.label))
            for pair in pairs
        }
        for split, pairs in selection.pairs.items()
    }
    place = str(pathlib.Path(folder).expanduser().resolve())
    return Request(place, RECIPE, dict(options), dict(layout.meanings), splits)


def _stamp(path: pathlib.Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:  # It is gone since it was listed; reading it says so.
        return 0, 0, 0
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def list_changes(
    then: Request, now: Request, pairs: Mapping[str, Sequence[Pair]], *, skip_bad: bool
) -> list[str]:
    """Lists how a request differs from the one that a dataset was prepared from.

    Splits that only one of both has are not compared.

    Args:
        then: the earlier request.
        now: the request.
        pairs: split -> pairs of files of the request.
        skip_bad: whether files with something wrong are left out now.
    """
    changes = []
    if then.recipe != now.recipe:
        changes.append("it was prepared by another version")
    if _order(then.meanings) != _order(now.meanings):
        changes.append(f"the label map differs: {_compare_meanings(then.meanings, now.meanings)}")
    shared = then.splits.keys() & now.splits.keys()
    for flag in sorted({*then.options, *now.options} - (set() if shared else _OF_ONE_SPLIT)):
        before, after = (found.options.get(flag, "not given") for found in (then, now))
        if before != after:
            changes.append(f"--{flag} was {before} and is {after}")
    if then.left_out and not skip_bad:
        changes.append(f"--skip_bad left {count(then.left_out, 'file')} out")
    for split in now.splits:
        if split in then.splits:
            found = _compare_files(then.splits[split], now.splits[split], pairs[split])
            changes += [f"{change} in {split}" for change in found]
    return changes


def _order(meanings: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Returns what decides the stored values: classes of values, and the order of classes."""
    return dict(meanings), list(dict.fromkeys(meanings.values()))


def _compare_meanings(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    if not then or not now:
        return "there was none then" if now else "there is none now"
    changes = []
    for value in dict.fromkeys([*then, *now]):
        before, after = then.get(value), now.get(value)
        if before is None:
            changes.append(f"{value} {after} is new")
        elif after is None:
            changes.append(f"{value} {before} is gone")
        elif before != after:
            changes.append(f"{value} {before} -> {after}")
    return shorten(changes, _LISTED) if changes else "its classes are in another order"


def _compare_files(
    then: Mapping[str, Sources], now: Mapping[str, Sources], pairs: Sequence[Pair]
) -> Iterator[str]:
    """Yields the differences of the files of a split."""
    more, fewer = ([n for n in a if n not in b] for a, b in ((now, then), (then, now)))
    for names, word in ((more, "more"), (fewer, "fewer")):
        if names:
            yield f"{count(len(names), 'image')} {word} ({shorten(names, _LISTED)})"
    by_name = {pair.name: pair for pair in pairs}
    for index, what in enumerate(("image", "label")):
        other = [
            name
            for name in now
            if name in then
            and not _is_same(
                then[name][index],
                now[name][index],
                (by_name[name].image, by_name[name].label)[index],
            )
        ]
        if other:
            yield f"{count(len(other), what)} with other content ({shorten(other, _LISTED)})"


def _is_same(then: Source | None, now: Source | None, file: RawFile | None) -> bool:
    if then is None or now is None or file is None:
        return then is now
    if then.num_bytes != now.num_bytes:
        return False
    if then.stamp == now.stamp or not then.digest:
        return True
    try:
        return then.digest == digest([file.read()])
    except Exception:  # OSError, or the many types of zipfile and zlib for damaged data
        return False
