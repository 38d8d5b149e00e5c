"""Lists and reads the files of a raw folder: extracted, inside zip files as downloaded, or a mix.

Synopsis:

  files = RawFiles("downloads/gta5")
  images = files.find(r"images/(?P<name>\\d{5})\\.png")    # {"00001": RawFile, ...}
  images["00001"].read()
"""

import dataclasses
import functools
import os
import pathlib
import re
import zipfile

from alp_jax.data import walk
from alp_jax.data.videos import is_video
from alp_jax.data.walk import PassedOver
from alp_jax.errors import UserError, describe_near, printable, shorten

# More than the largest image file; a zip file can claim, and unpack to, any size.
MAX_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class RawFile:
    """One file; picklable for worker processes.

    Attributes:
        root: the raw folder.
        archive: path of the zip file that holds it, below root; "" for a plain file.
        path: path below root, or inside the zip file.
        num_bytes: uncompressed size.
    """

    root: pathlib.Path
    archive: str
    path: str
    num_bytes: int

    def __str__(self) -> str:
        return printable(f"{self.archive}:{self.path}" if self.archive else self.path)

    def read(self) -> bytes:
        """Reads the whole file.

        Raises:
            Exception: OSError, also for a file that is too large to be an image, or the many types
                of zipfile for a damaged member.
        """
        if self.num_bytes > MAX_BYTES:
            raise OSError(f"{self.num_bytes:,} bytes, more than the {MAX_BYTES:,} that are read")
        return self.read_first(None)

    def read_first(self, num_bytes: int | None) -> bytes:
        """Reads the first bytes, or all; raises as `read` does."""
        if self.archive:
            with _open_zip(self.root / self.archive).open(self.path) as member:
                return member.read(-1 if num_bytes is None else num_bytes)
        with (self.root / self.path).open("rb") as file:
            return file.read(-1 if num_bytes is None else num_bytes)


@functools.lru_cache(maxsize=64)
def _open_zip(path: pathlib.Path) -> zipfile.ZipFile:
    """Opens a zip file; each process has its own handles."""
    return zipfile.ZipFile(path)


class RawFiles:
    """Index of a raw folder; it remembers which files patterns have matched.

    Attributes:
        root: the raw folder.
        passed_over: what is in it and is not listed: hidden files, broken links, ...
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Lists the folder and the zip files in it; plain files come before files in zip files.

        A video counts as a folder that holds nothing else.

        Raises:
            UserError: if the folder does not exist, or a zip file in it is damaged.
        """
        self.root = pathlib.Path(root).expanduser()
        self._useful: set[RawFile] = set()
        self._copies: list[RawFile] = []
        if self.root.is_file() and is_video(self.root):
            video, self.root = self.root, self.root.parent
            self._files = [RawFile(self.root, "", video.name, video.stat().st_size)]
            self.passed_over: list[PassedOver] = []
            return
        if not self.root.is_dir():
            raise _no_folder(self.root)
        listing = walk.walk(self.root)
        self.passed_over = listing.passed_over
        plain = [RawFile(self.root, "", file.path, file.num_bytes) for file in listing.files]
        archives = [file for file in plain if file.path.lower().endswith(".zip")]
        self._files = [file for file in plain if file not in archives]
        damaged = []
        for archive in archives:
            try:
                found, hidden = _list_zip(self.root, archive.path)
            except UnicodeDecodeError:
                raise UserError(
                    f"{self.root / archive.path} holds names that are not UTF-8, although it says "
                    "so: unpack it, and move the zip file away."
                ) from None
            except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
                damaged.append(f"{self.root / archive.path} ({error})")
            else:
                self._files += found
                self.passed_over += hidden
        if damaged:
            raise UserError(f"Not a whole zip file: {', '.join(damaged)}: download it again.")
        self._drop_copies()

    def _drop_copies(self) -> None:
        """Keeps the first of files with the same path, outside and inside of zip files."""
        first: dict[str, RawFile] = {}
        for file in self._files:
            if first.setdefault(file.path, file) is not file:
                self._copies.append(file)
        self._files = list(first.values())

    def find_all(self, pattern: str) -> list[tuple[str, RawFile]]:
        """Lists the files whose path ends in a pattern, as (match of the group `name`, file)."""
        expression = re.compile(rf"(?:^|/){pattern}\Z", re.DOTALL)
        found = []
        for file in self._files:
            match = expression.search(file.path)
            if match is not None:
                found.append((match["name"], file))
                self._useful.add(file)
        return found

    def find(self, pattern: str) -> dict[str, RawFile]:
        """Maps names to files, like `find_all`, sorted; of files with the same name, the first."""
        found = dict(reversed(self.find_all(pattern)))
        return dict(sorted(found.items()))

    def others(self) -> list[RawFile]:
        """Lists the files that no pattern has matched."""
        return [file for file in self._files if file not in self._useful]

    def describe_rest(self) -> list[str]:
        """Describes what is not read: a line for other files, and for each kind of the rest."""
        others = [str(file) for file in self.others()]
        rest = [f"Passed over, {text}." for text in walk.count_passed_over(self.passed_over)]
        if others:
            rest.insert(0, f"Other files, which are not read: {len(others):,} ({shorten(others)}).")
        if self._copies:
            names = shorten([str(file) for file in self._copies])
            rest.append(
                f"In a zip file and outside of it, and read there: {len(self._copies):,} ({names})."
            )
        return rest


def _no_folder(root: pathlib.Path) -> UserError:
    what = "is a file, and not a folder"
    if not root.exists():
        near = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
        what = f"does not exist{describe_near(root.name, near)}"
    return UserError(
        f"{printable(str(root))} {what}: give the folder of the files, or of the zip files that "
        "were downloaded."
    )


def _list_zip(root: pathlib.Path, archive: str) -> tuple[list[RawFile], list[PassedOver]]:
    with zipfile.ZipFile(root / archive) as opened:
        members = opened.infolist()
    files, hidden = [], {}
    for member in members:
        path = pathlib.PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(
                f"{root / archive} holds {member.filename!r}, which leads out of its folder: "
                "expected the file as it was published; download it again."
            )
        number = next((n for n, part in enumerate(path.parts) if walk.is_hidden(part)), None)
        if number is not None:
            name = f"{archive}:{'/'.join(path.parts[: number + 1])}"
            hidden[name] = PassedOver(name, walk.HIDDEN, "is hidden, or a system's own")
        elif not member.is_dir():
            files.append(RawFile(root, archive, member.filename, member.file_size))
    return files, list(hidden.values())
