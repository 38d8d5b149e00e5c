"""The two checkouts that are compared, and processes in them."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = pathlib.Path(__file__).parent
_WORKER = pathlib.Path("tests", "same_bits", "worker.py")
_FROZEN_WORKER = PACKAGE / "worker_106e02e.py"


@dataclasses.dataclass(frozen=True)
class Side:
    """A checkout.

    Attributes:
      name: "base" or "head".
      root: its folder.
      cache: folder of compiled programs.
    """

    name: str
    root: pathlib.Path
    cache: pathlib.Path

    @property
    def worker(self) -> pathlib.Path:
        """The checkout's own worker; where it has none, the one for commit 106e02e."""
        own = self.root / _WORKER
        return own if own.exists() else _FROZEN_WORKER

    def run(self, *arguments: str, quiet: bool = False) -> None:
        """Runs Python with arguments in the checkout, and waits.

        Raises:
          SystemExit: if the process fails, with the end of what it wrote.
        """
        process = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=self._environment(),
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
            text=True,
            check=False,
        )
        if process.returncode:
            tail = "\n".join((process.stdout or "").splitlines()[-30:])
            command = " ".join(arguments)
            raise SystemExit(f"{self.name}: {command} ended with {process.returncode}.\n{tail}")

    def _environment(self) -> dict[str, str]:
        """The environment of users: real compilation, on the CPU, with compiled programs kept."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.root),
            "JAX_COMPILATION_CACHE_DIR": str(self.cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PLATFORMS": "cpu",
        }
        environment.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)
        return environment


@contextlib.contextmanager
def checkout(revision: str, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Checks a revision out into a worktree, which is removed at the end.

    Raises:
      SystemExit: if there is no such revision.
    """
    added = subprocess.run(
        ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(folder), revision],
        capture_output=True,
        text=True,
        check=False,
    )
    if added.returncode:
        raise SystemExit(f"--base={revision} cannot be checked out: {added.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(
            ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(folder)], check=False
        )
