"""Lists the files of a folder that a user gives, in the same way for every command.

Synopsis:

  listing = walk("camera")
  listing.files            # [FoundFile(path="day/a.png", num_bytes=...)]
  listing.passed_over      # what is in the folder and is not listed, each with its reason
  count_passed_over(listing.passed_over)    # ["hidden: 2 (.DS_Store, .thumbnails)"]

Links to files and folders are followed. A folder is listed once, under its own name rather than a
link's. Names are those of os.fsdecode, so any bytes may be in them; messages need `printable`.
"""

import dataclasses
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Iterator

from alp_jax.errors import UserError, describe, printable, shorten

MARK = ".alp_jax"  # File in a folder of outputs; holds what they are.

Parts = tuple[str, ...]

# Kinds of what is passed over, as headings.
HIDDEN = "hidden"
KNOWN_FOLDER = "folders that are read already"
NOT_A_FILE = "neither files nor folders"
BROKEN_LINK = "links to nothing"
UNREADABLE = "cannot be opened"
# What should have been read, and could not be.
FAULTS = (BROKEN_LINK, UNREADABLE)

# Folders that systems make; names that begin with a dot are hidden as well.
_SYSTEM_NAMES = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
_TYPES = (
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


@dataclasses.dataclass(frozen=True)
class FoundFile:
    """A file of a folder.

    Attributes:
      path: below the folder, with "/".
      num_bytes: its size.
    """

    path: str
    num_bytes: int

    @property
    def parts(self) -> Parts:
        """Names of its folders, and its own."""
        return split(self.path)


@dataclasses.dataclass(frozen=True)
class PassedOver:
    """Something in a folder that is not listed, and whose content is not listed.

    Attributes:
      path: below the folder.
      kind: heading under which a message counts it.
      reason: completes a sentence that begins with the path.
    """

    path: str
    kind: str
    reason: str

    @property
    def parts(self) -> Parts:
        """Names of its folders, and its own."""
        return split(self.path)


@dataclasses.dataclass
class Listing:
    """What is in a folder.

    Attributes:
      files: in the order of their folders, the files of a folder before those of its subfolders.
      passed_over: everything else, in the order of paths.
      not_entered: folders that the caller did not ask for.
    """

    files: list[FoundFile] = dataclasses.field(default_factory=list)
    passed_over: list[PassedOver] = dataclasses.field(default_factory=list)
    not_entered: list[str] = dataclasses.field(default_factory=list)


def walk(
    root: str | os.PathLike[str], *, enters: Callable[[Parts], bool] = lambda _: True
) -> Listing:
    """Lists a folder with its subfolders; raises for nothing that is wrong in it.

    Args:
      root: the folder; it may be hidden itself.
      enters: whether to list a subfolder, by the names that lead to it.
    Raises:
      UserError: if the folder holds predictions that this package wrote.
    """
    _refuse_predictions(root)
    return _Walker(os.fspath(root), enters).run()


def _refuse_predictions(root: str | os.PathLike[str]) -> None:
    """Refuses a folder of predictions, whose pictures would be taken for photographs."""
    try:
        kind = pathlib.Path(root, MARK).read_text(errors="replace").strip()
    except OSError:
        return
    if kind.startswith("predictions"):
        raise UserError(
            f"{printable(os.fspath(root))} is a folder of {kind} of this package: expected images "
            "of a camera; give the folder that they were predicted of."
        )


def split(path: str) -> Parts:
    """Splits a path into names."""
    return tuple(path.split("/"))


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder is a system's or a program's own, by its name."""
    return name.startswith(".") or name in _SYSTEM_NAMES


def count_passed_over(passed_over: Iterable[PassedOver]) -> list[str]:
    """Counts what was passed over: a text for each kind, with the number and the first names."""
    by_kind: dict[str, list[str]] = {}
    for one in passed_over:
        by_kind.setdefault(one.kind, []).append(printable(one.path))
    return [f"{kind}: {len(names):,} ({shorten(names)})" for kind, names in sorted(by_kind.items())]


class _Walker:
    """Walks over a folder: first without links to folders, then through these, level by level."""

    def __init__(self, root: str, enters: Callable[[Parts], bool]):
        self._root = root
        self._enters = enters
        self._listing = Listing()
        self._links: list[str] = []
        # (device, inode) of a folder -> how it is called.
        self._known: dict[tuple[int, int], str] = {}

    def run(self) -> Listing:
        for folder in pathlib.Path(os.path.realpath(self._root)).parents:
            self._remember(os.fspath(folder), "one that holds it")
        self._remember(self._root, "the folder itself")
        self._list_tree("")
        while self._links:
            links, self._links = sorted(self._links, key=split), []
            for link in links:
                if self._is_new(link):
                    self._list_tree(link)
        self._listing.files.sort(key=_order)
        self._listing.passed_over.sort(key=lambda one: split(one.path))
        self._listing.not_entered.sort(key=split)
        return self._listing

    def _list_tree(self, folder: str) -> None:
        pending = [folder]
        while pending:
            pending += self._list_folder(pending.pop())

    def _list_folder(self, folder: str) -> Iterator[str]:
        """Lists one folder; yields its subfolders, but not those behind links."""
        try:
            with os.scandir(os.path.join(self._root, folder)) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            self._pass_over(folder or ".", UNREADABLE, f"cannot be opened ({describe(error)})")
            return
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if is_hidden(entry.name):
                self._pass_over(path, HIDDEN, "is hidden, or a system's own")
                continue
            try:
                status = entry.stat()
                is_link = entry.is_symlink()
            except OSError as error:
                self._explain_failure(entry, path, error)
                continue
            if stat.S_ISREG(status.st_mode):
                self._listing.files.append(FoundFile(path, status.st_size))
            elif not stat.S_ISDIR(status.st_mode):
                kind = next((name for test, name in _TYPES if test(status.st_mode)), "special")
                self._pass_over(path, NOT_A_FILE, f"is neither a file nor a folder ({kind})")
            elif not self._enters(split(path)):
                self._listing.not_entered.append(path)
            elif is_link:
                self._links.append(path)
            elif self._is_new(path):
                yield path

    def _explain_failure(self, entry: "os.DirEntry[str]", path: str, error: OSError) -> None:
        if isinstance(error, FileNotFoundError) and os.path.islink(entry.path):
            self._pass_over(path, BROKEN_LINK, "is a link to nothing")
        else:
            self._pass_over(path, UNREADABLE, f"cannot be opened ({describe(error)})")

    def _is_new(self, folder: str) -> bool:
        """Remembers a folder; passes it over if it was reached before on another way."""
        known = self._remember(os.path.join(self._root, folder), folder)
        if known is not None:
            self._pass_over(folder, KNOWN_FOLDER, f"is the same folder as {printable(known)}")
        return known is None

    def _remember(self, path: str, name: str) -> str | None:
        """Returns the name under which a folder is known already, or None."""
        try:
            status = os.stat(path)
        except OSError:
            return None  # Listing it says why.
        identity = (status.st_dev, status.st_ino)
        known = self._known.get(identity)
        if known is None:
            self._known[identity] = name
        return known

    def _pass_over(self, path: str, kind: str, reason: str) -> None:
        self._listing.passed_over.append(PassedOver(path, kind, reason))


def _order(file: FoundFile) -> tuple[tuple[bool, str], ...]:
    """Sorts the files of a folder before its subfolders."""
    *folders, name = file.parts
    return (*((True, folder) for folder in folders), (False, name))
