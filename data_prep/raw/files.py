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

from alp_jax.data.frames import is_video
from alp_jax.errors import UserError

# More than the largest image file; a zip file can claim, and unpack to, any size.
MAX_BYTES = 1 << 30
_JUNK = re.compile(r"(^|/)(__MACOSX/|\._)")  # macOS adds a file ._NAME to each file NAME


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
        return f"{self.archive}:{self.path}" if self.archive else self.path

    def read(self) -> bytes:
        """Reads the whole file.

        Raises:
            Exception: OSError, also for a file that is too large to be an image, or the many types
                of zipfile for a damaged member.
        """
        if self.num_bytes > MAX_BYTES:
            raise OSError(f"{self.num_bytes:,} bytes, more than the {MAX_BYTES:,} that are read")
        if self.archive:
            return _open_zip(self.root / self.archive).read(self.path)
        return (self.root / self.path).read_bytes()


@functools.lru_cache(maxsize=64)
def _open_zip(path: pathlib.Path) -> zipfile.ZipFile:
    """Opens a zip file; each process has its own handles."""
    return zipfile.ZipFile(path)


class RawFiles:
    """Index of a raw folder; it remembers which files patterns have matched."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Lists the folder and the zip files in it; plain files come before files in zip files.

        A video counts as a folder that holds nothing else.

        Raises:
            UserError: if the folder does not exist, or a zip file in it is damaged.
        """
        self.root = pathlib.Path(root).expanduser()
        self._useful: set[RawFile] = set()
        if self.root.is_file() and is_video(self.root):
            video, self.root = self.root, self.root.parent
            self._files = [RawFile(self.root, "", video.name, video.stat().st_size)]
            return
        if not self.root.is_dir():
            raise UserError(
                f"{self.root} is not a folder: give the folder that holds the raw dataset, "
                "extracted or as the zip files that were downloaded."
            )
        plain = _list_folder(self.root)
        archives = [file for file in plain if file.path.lower().endswith(".zip")]
        self._files = [file for file in plain if file not in archives]
        damaged = []
        for archive in archives:
            try:
                self._files += _list_zip(self.root, archive.path)
            except (OSError, zipfile.BadZipFile) as error:
                damaged.append(f"{self.root / archive.path} ({error})")
        if damaged:
            raise UserError(f"Not a whole zip file: {', '.join(damaged)}: download it again.")

    def find_all(self, pattern: str) -> list[tuple[str, RawFile]]:
        """Lists the files whose path ends in a pattern, as (match of the group `name`, file)."""
        expression = re.compile(rf"(?:^|/){pattern}$")
        found = []
        for file in self._files:
            match = expression.search(file.path)
            if match is not None and not _JUNK.search(file.path):
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


def _list_folder(root: pathlib.Path) -> list[RawFile]:
    files = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders.sort()
        for name in sorted(names):
            path = pathlib.Path(folder, name)
            if path.is_file():
                files.append(
                    RawFile(root, "", path.relative_to(root).as_posix(), path.stat().st_size)
                )
    return files


def _list_zip(root: pathlib.Path, archive: str) -> list[RawFile]:
    with zipfile.ZipFile(root / archive) as opened:
        for member in opened.infolist():
            path = pathlib.PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts:
                raise UserError(
                    f"{root / archive} holds {member.filename!r}, which leads out of its folder: "
                    "expected the file as it was published; download it again."
                )
        return [
            RawFile(root, archive, member.filename, member.file_size)
            for member in opened.infolist()
            if not member.is_dir()
        ]
