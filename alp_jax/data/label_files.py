"""Reads, checks and writes label set files: the classes of a run, as YAML.

Synopsis:

  fields = read(pathlib.Path("my_classes.yaml"))    # complete and checked, or UserError
  text = write(fields)

A file holds:

  classes:                                 # In the order of train ids.
    - {name: ground, colour: [128, 64, 128], id: 7}
    - vehicles                             # Default: a free colour, and the position as id.
  includes:                                # Dataset classes that become one of these.
    ground: [road, sidewalk]
    vehicles: [car, truck, bus]
  reports:                                 # Means over some classes, for every evaluation.
    mean_iou_traffic: [vehicles]
  no_class: 255                            # Label id of pixels without a class; no class's id.
  prediction_suffix: _labelIds             # Of files that --mode=evaluate --predictions writes.
  name: my_classes                         # For messages; default: the name of the file.

Only `classes` is required.
"""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from alp_jax.data.class_names import IGNORE, NAME_RULE, find_near, is_class_name
from alp_jax.data.colours import choose_colours
from alp_jax.data.yaml_text import decode_text, format_yaml, parse_yaml
from alp_jax.errors import UserError, describe

Fields = dict[str, Any]

ENDINGS = (".yaml", ".yml")
MAX_CLASSES = 255

_KEYS = ("classes", "includes", "reports", "no_class", "prediction_suffix", "name")
_CLASS_KEYS = ("name", "colour", "id")
_REPORT = re.compile(r"mean_iou_[a-z0-9_]+")
_SUFFIX = re.compile(r"[\w.-]*")


def read(path: pathlib.Path) -> Fields:
    """Reads a label set file and fills in what it leaves out.

    Returns:
      all fields of the file (see above); each class is {"name", "id", "colour"}.
    Raises:
      UserError: if the file cannot be read or is not a label set; the message names the fault.
    """
    try:
        text = decode_text(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"There is no label set file {path} in {pathlib.Path.cwd()}: expected a YAML file with "
            "classes; give config.data.label_set a path from that folder, or an absolute one."
        ) from None
    except (OSError, ValueError) as error:
        reason = describe(error) if isinstance(error, OSError) else error
        raise UserError(
            f"The label set {path} cannot be read ({reason}): expected a text file in YAML; give "
            "config.data.label_set another path."
        ) from error
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise UserError(
            f"The label set {path} is not YAML ({error}): expected keys such as classes; mend it."
        ) from error
    return _Checker(path).check(content)


def write(fields: Fields) -> str:
    """Formats the fields of a label set as the text of a file."""
    return format_yaml(fields)


class _Checker:
    """Checks the content of one file."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def check(self, content: Any) -> Fields:
        """Checks the whole content; returns the complete fields."""
        if not isinstance(content, dict) or "classes" not in content:
            self._refuse(
                f"holds {_show(content)}",
                "a key classes with a list of names",
                "write, for example, classes: [road, car, sky]",
            )
        self._check_keys(content, _KEYS, "")
        classes = self._check_classes(content["classes"])
        names = [entry["name"] for entry in classes]
        return {
            "name": self._check_title(content.get("name", self._path.stem)),
            "classes": classes,
            "includes": self._check_includes(content.get("includes"), names),
            "reports": self._check_reports(content.get("reports"), names),
            "no_class": self._check_no_class(content.get("no_class"), classes),
            "prediction_suffix": self._check_suffix(content.get("prediction_suffix", "")),
        }

    def _refuse(self, given: str, expected: str, remedy: str) -> NoReturn:
        raise UserError(f"The label set {self._path} {given}: expected {expected}; {remedy}.")

    def _check_keys(self, found: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
        for key in found:
            if key not in known:
                near = find_near(str(key), known)
                hint = f"did you mean {near}? If not, leave it out" if near else "leave it out"
                self._refuse(f"has the key {key!r}{where}", f"only {', '.join(known)}", hint)

    def _check_classes(self, entries: Any) -> list[Fields]:
        if not isinstance(entries, list) or not 2 <= len(entries) <= MAX_CLASSES:
            given = f"{len(entries)} classes" if isinstance(entries, list) else _show(entries)
            given = "1 class" if given == "1 classes" else given
            self._refuse(
                f"has {given}",
                f"a list of 2 to {MAX_CLASSES} classes",
                "for one kind of object add a class for everything else, such as background",
            )
        classes = [self._check_class(entry, number) for number, entry in enumerate(entries)]
        given_colours = [entry["colour"] for entry in classes if entry["colour"] is not None]
        chosen = iter(choose_colours(len(classes) - len(given_colours), given_colours))
        for entry in classes:
            entry["colour"] = list(next(chosen)) if entry["colour"] is None else entry["colour"]
        remedies = {
            "name": "rename one of them",
            "id": "change one of them, or leave all out: then they are positions",
            "colour": "change one of them, or leave it out for a colour that is free",
        }
        for key, remedy in remedies.items():
            first: dict[Any, str] = {}
            for entry in classes:
                value = tuple(entry[key]) if key == "colour" else entry[key]
                if value in first:
                    pair = f"the classes {first[value]!r} and {entry['name']!r}"
                    what = f"two classes {entry['name']!r}" if key == "name" else pair
                    given = "" if key == "name" else f" with the same {key} {entry[key]}"
                    self._refuse(f"has {what}{given}", f"another {key} for each class", remedy)
                first[value] = entry["name"]
        return classes

    def _check_class(self, entry: Any, position: int) -> Fields:
        where = f" in class number {position + 1}"
        found = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(found, dict) or "name" not in found:
            self._refuse(
                f"has {_show(entry)} as class number {position + 1}",
                "a name, or name with colour and id",
                "write, for example, - {name: car, colour: [0, 0, 142], id: 26} (a name such as "
                "yes or 12 needs quotes)",
            )
        self._check_keys(found, _CLASS_KEYS, where)
        name = self._check_name(found["name"], f"name{where}")
        label_id = found.get("id", position)
        if not _is_byte(label_id):
            self._refuse(
                f"gives class {name!r} the id {_show(label_id)}",
                "a whole number from 0 to 255",
                "change it, or leave it out: then it is the class's position",
            )
        colour = found.get("colour")
        if colour is not None and not (
            isinstance(colour, list) and len(colour) == 3 and all(map(_is_byte, colour))
        ):
            self._refuse(
                f"gives class {name!r} the colour {_show(colour)}",
                "red, green and blue from 0 to 255, such as [0, 0, 142]",
                "change it, or leave it out for a colour that is free",
            )
        return {"name": name, "id": label_id, "colour": colour}

    def _check_name(self, name: Any, where: str) -> str:
        if not is_class_name(name):
            remedy = "rename it" if isinstance(name, str) else "put it in quotes"
            what = f"{NAME_RULE}, but not {IGNORE}" if name == IGNORE else NAME_RULE
            self._refuse(f"has {_show(name)} as {where}", what, remedy)
        return str(name)

    def _check_title(self, title: Any) -> str:
        if not isinstance(title, str) or not title.strip() or not title.isprintable():
            self._refuse(f"has name: {_show(title)}", "a text", "change it, or leave it out")
        return str(title)

    def _check_includes(self, includes: Any, names: Sequence[str]) -> dict[str, list[str]]:
        """Checks that each dataset class becomes at most one class of the set."""
        lists = self._check_lists(includes, "includes", "vehicles: [car, truck, bus]")
        owners = {name: name for name in names}
        for owner, included in lists.items():
            self._check_is_class(owner, f"includes classes in {owner!r}", names)
            for name in included:
                self._check_name(name, f"an included class of {owner!r}")
                if included.count(name) > 1:
                    self._refuse(
                        f"includes {name!r} twice in {owner!r}", "each name once", "remove one"
                    )
                if owners.setdefault(name, owner) != owner:
                    itself = "a class itself" if owners[name] == name else f"in {owners[name]!r}"
                    self._refuse(
                        f"includes {name!r} in {owner!r}, but it is {itself} too",
                        "each name in one class only",
                        "take it out of one of them",
                    )
        return {
            owner: [name for name in dict.fromkeys(included) if name != owner]
            for owner, included in lists.items()
        }

    def _check_reports(self, reports: Any, names: Sequence[str]) -> dict[str, list[str]]:
        lists = self._check_lists(reports, "reports", "mean_iou_traffic: [car, truck]")
        for key, reported in lists.items():
            if not _REPORT.fullmatch(key):
                self._refuse(
                    f"has the report {key!r}",
                    "mean_iou_ and then small letters, digits or _",
                    "rename it, for example mean_iou_traffic",
                )
            for name in reported:
                self._check_is_class(name, f"has {_show(name)} in the report {key}", names)
            if not reported or len(set(reported)) < len(reported):
                given = "one class twice" if reported else "no class"
                self._refuse(
                    f"has {given} in the report {key}",
                    "a list of different classes",
                    "mend the list, or leave the report out",
                )
        return lists

    def _check_lists(self, found: Any, key: str, example: str) -> dict[str, list[Any]]:
        """Checks that a value maps texts to lists; None counts as an empty mapping."""
        found = {} if found is None else found
        values = found.items() if isinstance(found, dict) else [(None, found)]
        for name, listed in values:
            if not isinstance(name, str) or not isinstance(listed, list):
                what = f"{key}: {_show(listed)}" if name is None else f"{name}: {_show(listed)}"
                self._refuse(f"has {what}", f"{key} of the form {example}", "mend it")
        return dict(found)

    def _check_is_class(self, name: Any, given: str, names: Sequence[str]) -> None:
        if name not in names:
            near = find_near(str(name), names)
            hint = f"did you mean {near!r}? If not, " if near else ""
            self._refuse(
                f"{given}, which is none of its classes",
                f"one of {', '.join(names)}",
                f"{hint}add that class or take the name out",
            )

    def _check_no_class(self, value: Any, classes: Sequence[Fields]) -> int:
        owners = {entry["id"]: entry["name"] for entry in classes}
        if value is None:
            return max(set(range(256)) - owners.keys())
        if not _is_byte(value) or value in owners:
            whose = f", the id of class {owners[value]!r}" if value in tuple(owners) else ""
            self._refuse(
                f"has no_class {_show(value)}{whose}",
                "a whole number from 0 to 255 that is no class's id",
                "change it, or leave it out",
            )
        return int(value)

    def _check_suffix(self, suffix: Any) -> str:
        if not isinstance(suffix, str) or not _SUFFIX.fullmatch(suffix):
            self._refuse(
                f"has prediction_suffix {_show(suffix)}",
                "letters, digits and any of _ - .",
                "change it, or leave it out",
            )
        return str(suffix)


def _is_byte(value: Any) -> bool:
    # In Python, True is an int.
    return type(value) is int and 0 <= value <= 255


def _show(value: Any) -> str:
    """Formats a value for a sentence, in one line of at most 60 characters."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
