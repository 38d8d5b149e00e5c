"""Does something as a user who has no rights in others' folders."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

NOBODY = 65534


@contextlib.contextmanager
def as_nobody(folder: pathlib.Path) -> Iterator[None]:
    """Acts as another user, if the tests are root's; the way to a temporary folder is opened."""
    temporary = pathlib.Path(tempfile.gettempdir())
    for path in (folder, *folder.parents):
        if temporary in path.parents:
            path.chmod(0o755)
    user = os.getuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
