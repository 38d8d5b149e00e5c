"""Finds a class by its kind: the name of a file in a package, or the path of a user's own file.

Synopsis:

  names("alp_jax.objective.terms")                      # ["alignment", "cross_entropy", ...]
  load("alp_jax.objective.terms", "alignment", "TERM")  # the class that TERM names in that file
  load("alp_jax.objective.terms", "my_term.py", "TERM")

A new kind is a new file, which ends with `TERM = MyTerm`; there is no registry.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pathlib
import pkgutil
import sys
import traceback
import urllib.parse
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from alp_jax.errors import UserError, describe, describe_near

# Users' files are imported as submodules of this module; Python requires a parent with a __path__.
__path__: list[str] = []


class FileError(UserError):
    """A fault of a user's file, which the message names."""


def names(package: str) -> list[str]:
    """Lists the kinds in a package: its modules without a leading underscore."""
    path = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))


def list_accepted(package: str) -> str:
    """Describes the accepted kinds, for error messages."""
    return f"one of {', '.join(names(package))}, or the path of a .py file of your own"


def load(package: str, kind: Any, attribute: str, *, name: str = "kind") -> type:
    """Imports the file of a kind and returns its class.

    Args:
      package: full name of the package, such as "alp_jax.objective.terms".
      kind: name of a module in it, or a path that ends in ".py"; a relative path is relative to
        the working directory. Each file is imported once per process.
      attribute: name of the class in every such file, such as "TERM".
      name: full name of the field that holds the kind, for error messages.
    Raises:
      UserError: if there is no such file, its import fails, it lacks the attribute, or its class is
        not what the package declares as its BASE.
    """
    module = load_module(package, kind, name=name)
    file = module.__file__
    found = getattr(module, attribute, None)
    if not isinstance(found, type) or not _is_defined_in(found, module):
        raise UserError(
            f"{name} is {kind!r}: expected {file} to end with {attribute} = CLASS, where CLASS is "
            "a class defined in that file."
        )
    base = getattr(importlib.import_module(package), "BASE", object)
    if not issubclass(found, base):
        raise UserError(
            f"{name} is {kind!r}: expected a file whose class inherits from {base.__module__}."
            f"{base.__name__}, and {found.__name__} in {file} does not."
        )
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise UserError(
            f"{name} is {kind!r}, and {found.__name__} in {file} lacks {', '.join(missing)}: write "
            "what its base class asks for."
        )
    return found


def load_module(package: str, kind: Any, *, name: str = "kind") -> ModuleType:
    """Imports the file of a kind and returns its module; arguments and errors as in `load`."""
    module_name = _get_module_name(package, kind, name)
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        file = _get_file(module_name)
        where = _find_line(file, error)
        raise UserError(
            f"{name} is {kind!r}, and {file} cannot be imported{where} ({describe(error)}): "
            "mend that file."
        ) from error


def run_function(module: ModuleType, attribute: str, *arguments: Any) -> Any:
    """Calls a function of a kind's module.

    Raises:
      UserError: if the module has no such function, or the function raises an error.
    """
    file = str(module.__file__)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise UserError(f"{file} has no function {attribute}: expected one there.")
    try:
        return found(*arguments)
    except FileError:
        raise
    except UserError as error:
        raise UserError(f"{file}{_find_line(file, error)}: {error}") from error
    except Exception as error:
        raise UserError(
            f"{attribute} of {file} fails{_find_line(file, error)} ({describe(error)}): mend that "
            "file."
        ) from error


def describe_own_fault(error: BaseException) -> str | None:
    """Describes an error that was raised in a user's file; None if none of its code was running."""
    frames = traceback.extract_tb(error.__traceback__)
    files = {
        module.__file__
        for name, module in list(sys.modules.items())
        if name.startswith(f"{__name__}.")
    }
    found = [(frame.filename, frame.lineno) for frame in frames if frame.filename in files]
    if not found:
        return None
    file, line = found[-1]
    return f"{file} fails, line {line} ({describe(error)}): mend that file."


def get_kind(cls: type, package: str) -> str:
    """Returns the kind under which `load` finds a class: a name in the package, or a path.

    The path of a user's file is relative to the working directory if the file is inside it.

    Raises:
      UserError: if the class is defined elsewhere.
    """
    parent, _, last = cls.__module__.rpartition(".")
    if parent == __name__:
        path = _unquote(last)
        here = pathlib.Path.cwd().resolve()
        return str(path.relative_to(here) if path.is_relative_to(here) else path)
    if cls.__module__.startswith(f"{package}."):
        return cls.__module__.removeprefix(f"{package}.").split(".")[0]
    raise UserError(
        f"{cls.__qualname__} is defined in {cls.__module__}: expected a file of {package}, or a "
        ".py file of your own that the configuration names."
    )


class _FileFinder(importlib.abc.MetaPathFinder):
    """Finds a user's file by its module name.

    The module name contains the path, so that another process can unpickle objects of the file's
    classes.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns the module spec of a user's file; None for all other modules."""
        parent, _, last = fullname.rpartition(".")
        if parent != __name__ or not last.endswith("%2Epy"):
            return None
        return importlib.util.spec_from_file_location(fullname, _unquote(last))


sys.meta_path.append(_FileFinder())


def _get_module_name(package: str, kind: Any, name: str) -> str:
    if isinstance(kind, str) and kind.endswith(".py"):
        if not os.path.isfile(kind):
            raise UserError(f"{name} is {kind!r}: no such file; expected {list_accepted(package)}.")
        return f"{__name__}.{_quote(pathlib.Path(kind).resolve())}"
    if kind not in names(package):
        near = describe_near(str(kind), names(package))
        raise UserError(f"{name} is {kind!r}{near}: expected {list_accepted(package)}.")
    return f"{package}.{kind}"


def _get_file(module_name: str) -> str:
    spec = importlib.util.find_spec(module_name)
    return str(spec.origin if spec else module_name)


def _is_defined_in(cls: type, module: ModuleType) -> bool:
    return f"{cls.__module__}.".startswith(f"{module.__name__}.")


def _find_line(file: str, error: Exception) -> str:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    return f", line {lines[-1]}" if lines else ""


def _quote(path: pathlib.Path) -> str:
    """Encodes a path without dots and slashes, as part of a module's name."""
    return urllib.parse.quote(os.fsencode(path), safe="").replace(".", "%2E")


def _unquote(quoted: str) -> pathlib.Path:
    return pathlib.Path(os.fsdecode(urllib.parse.unquote_to_bytes(quoted)))
