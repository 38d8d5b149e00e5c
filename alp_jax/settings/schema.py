"""Declares settings, each once, where the code reads it.

Synopsis:

  @dataclasses.dataclass(frozen=True)
  class DataSettings:
      batch_size: int = setting(1, "Images of each domain in a step.", at_least=1)
      source_size: Size = setting((720, 1280), "Size that source images are resized to.")

  config = to_config(DataSettings())      # for users: a ConfigDict, which can be changed
  settings = build(DataSettings, config)  # for the code: checked, typed and frozen

A field is a text, a number, True or False, a list of them, one of several texts (Literal), another
such dataclass, or a block with a kind (see kinds.py).

A class may have a method `check(self, name)`, which is called after each field was checked alone.
It refuses fields that do not agree: `refuse(f"{name}.batch_size", self.batch_size, "at most 8")`.

A class with OPERATIONAL = True or OF_WEIGHTS = False sets that mark for all of its fields and for
the blocks inside it; a mark of a field or of an inner class takes precedence.
"""

import dataclasses
import keyword
import math
import operator
import sys
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, TypeVar

from ml_collections import ConfigDict

from alp_jax.errors import UserError, describe_near
from alp_jax.settings import kinds

T = TypeVar("T")
# What users change: a configuration, or a block of it.
Config = ConfigDict

# Annotations: the expected value in words, and the least value of an item.
Size = Annotated[tuple[int, int], "(height, width) in pixels, both at least 1", 1]
Channels = Annotated[tuple[float, float, float], "3 numbers, one for each channel"]

_WORDS = {str: "a text", bool: "True or False", int: "a whole number", float: "a number"}
_PLURALS = {str: "texts", int: "whole numbers", float: "numbers"}
_KIND_CHANGES = "where a kind changes, replace the whole block (docs/own_parts.md)"
_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Setting:
    """The declaration of a field.

    Attributes:
      sentence: description of the field, for the documentation.
      at_least, above, at_most, below: range of a number, or of every number in a list.
      choices: accepted values, or accepted items of a list.
      non_empty: whether a list needs at least one item.
      operational: whether a run may continue with another value; None: as its class declares.
      of_weights: whether weights depend on the field; None: as its class declares.
      derived: whether an empty value is filled from the data when a run starts.
      package, attribute: package with a file for each kind of a block, and name of the class in
        each file.
      named: whether the field holds any number of blocks by name.
    """

    sentence: str = ""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    non_empty: bool = False
    operational: bool | None = None
    of_weights: bool | None = None
    derived: bool = False
    package: str = ""
    attribute: str = ""
    named: bool = False


class Field(NamedTuple):
    """A declared field with its type.

    Attributes:
      declared: the declaration.
      item: type of the value, or of a list's items; None for a block.
      words: the type in words.
      length: number of items of a list, 0 for any number; None if the value is not a list.
      least: least value of an item, as part of the type.
      block: the class of settings of a block without a kind.
    """

    declared: Setting
    item: type | None = None
    words: str = ""
    length: int | None = None
    least: float | None = None
    block: type | None = None


class Row(NamedTuple):
    """A field in the documentation: full name, type in words, default, accepted values, meaning."""

    name: str
    type: str
    default: Any
    accepted: str
    sentence: str


def setting(default: T, sentence: str, **facts: Any) -> T:
    """Declares a field; `facts` are further attributes of Setting, such as at_least=1."""
    return dataclasses.field(default=default, metadata={"setting": Setting(sentence, **facts)})


def block(package: str, attribute: str, sentence: str, *, default_kind: str, **marks: Any) -> Any:
    """Declares a field that holds a block with a kind.

    Args:
      package: the package with one file for each kind.
      attribute: name of the class of settings in each file.
      sentence: description of the field.
      default_kind: kind of the default block, whose fields have their own defaults.
      marks: operational, of_weights.
    """
    declared = Setting(sentence, package=package, attribute=attribute, **marks)
    return dataclasses.field(
        default_factory=lambda: kinds.load(package, default_kind, attribute)(),
        metadata={"setting": declared},
    )


def blocks(
    package: str,
    attribute: str,
    sentence: str,
    *,
    default_kinds: Mapping[str, str] | None = None,
    **marks: Any,
) -> Any:
    """Declares a field {name: block with a kind}, in alphabetical order.

    If a class in `package` has a plain field `name: str = ""`, the field receives the name of the
    block.

    Args:
      package: the package with one file for each kind.
      attribute: name of the class of settings in each file.
      sentence: what the field is.
      default_kinds: name -> kind of the blocks in the default; None for no block.
      marks: operational, of_weights.
    """
    declared = Setting(sentence, package=package, attribute=attribute, named=True, **marks)

    def create_default() -> dict[str, Any]:
        found = {n: kinds.load(package, k, attribute) for n, k in (default_kinds or {}).items()}
        return {n: cls(name=n) if _takes_name(cls) else cls() for n, cls in sorted(found.items())}

    return dataclasses.field(default_factory=create_default, metadata={"setting": declared})


def refuse(name: str, value: Any, expected: str) -> NoReturn:
    """Raises a UserError about the value of one field."""
    value = value.to_dict() if isinstance(value, ConfigDict) else value
    shown = repr(list(value) if isinstance(value, tuple) else value).replace("\n", " ")
    raise UserError(f"{name} is {shown}: expected {expected}.")


def describe_unknown(name: str, key: Any, known: Collection[str], kind: Any = None) -> str:
    """Describes an unknown field, with the closest known one and the list of all."""
    hint = describe_near(str(key), known)
    shown = key if str(key).isidentifier() else repr(key)
    owner = f"{name}, of the kind {kind!r}," if kind else name
    has = f"{owner} has {', '.join(sorted(known)) or 'none'}"
    if kind and not hint:
        has += f"; {_KIND_CHANGES}"
    return f"Unknown field {name}.{shown}{hint}: {has}."


def to_config(settings: Any) -> ConfigDict:
    """Creates a configuration with the values of a settings object."""
    config = ConfigDict()
    for key, field in get_fields(type(settings)).items():
        value = getattr(settings, key)
        if field.item:
            config[key] = _check_value(value, field, key)
        elif field.block:
            config[key] = to_config(value)
        elif field.declared.named:
            package = field.declared.package
            config[key] = ConfigDict({n: _to_block(part, package) for n, part in value.items()})
        else:
            config[key] = _to_block(value, field.declared.package)
    return config


def _to_block(settings: Any, package: str) -> ConfigDict:
    config = to_config(settings)
    config.kind = kinds.get_kind(type(settings), package)
    return config


def new_block(package: str, attribute: str, kind: str, **values: Any) -> ConfigDict:
    """Creates the block of a kind for a configuration: the kind's defaults, and given values.

    Raises:
      UserError: if there is no such kind, or it has no such field.
    """
    cls = kinds.load(package, kind, attribute, name=f"The kind of a {attribute.lower()}")
    fields = get_fields(cls)
    for key in values:
        if key not in fields:
            raise UserError(describe_unknown(kind, key, fields))
    _check_defaults(cls, fields.keys() - values.keys())
    config = to_config(cls(**values))
    config.kind = kind
    return config


def _check_defaults(cls: Any, keys: Collection[str]) -> None:
    """Refuses a default that its own declaration does not accept.

    Raises:
      kinds.FileError: naming the file and the field.
    """
    declared = dataclasses.fields(cls)
    items = {key: field for key, field in get_fields(cls).items() if field.item}
    for name, default in ((field.name, field.default) for field in declared):
        if name in keys and name in items and default is not dataclasses.MISSING:
            try:
                _check_value(default, items[name], f"The default of {cls.__name__}.{name}")
            except UserError as error:
                file = sys.modules[cls.__module__].__file__
                raise kinds.FileError(f"In {file}: {error}") from error


def build(
    cls: type[T],
    config: ConfigDict | Mapping[str, Any],
    *,
    name: str = "config",
    start: str = "configs/default.py",
) -> T:
    """Checks a configuration and creates the settings object.

    Args:
      cls: a dataclass of settings.
      config: the values, as a ConfigDict or as parsed from JSON (lists for tuples).
      name: full name of the configuration, for error messages.
      start: file with the default configuration, for error messages.
    Raises:
      UserError: naming the field, its value and what is accepted.
    """
    return _build(cls, config, name, f"start from {start}")


def _build(
    cls: type[T], config: Any, name: str, remedy: str, kind: Any = None, block_name: str = ""
) -> T:
    fields = get_fields(cls)
    values = _get_values(config, name, f"a block with the fields {', '.join(fields)}")
    for key in values:
        if key not in fields:
            raise UserError(describe_unknown(name, key, fields, kind))
    for key in fields:
        if key not in values:
            raise UserError(f"The configuration lacks {name}.{key}: {remedy}.")
    built = {k: _build_field(values[k], f, f"{name}.{k}", remedy) for k, f in fields.items()}
    if block_name and _takes_name(cls):
        built["name"] = block_name
    settings = cls(**built)
    if check := getattr(settings, "check", None):
        check(name)
    return settings


def _build_field(value: Any, field: Field, name: str, remedy: str) -> Any:
    if field.item:
        return _check_value(value, field, name)
    if field.block:
        return _build(field.block, value, name, remedy)
    if not field.declared.named:
        return _build_kind(value, field.declared, name)
    parts = _get_values(value, name, "blocks by name, each with a kind")
    for key in parts:
        if not _is_flag_name(key):
            expected = "letters, digits and _, and no word that Python or ConfigDict reserves"
            refuse(f"The name of a block in {name}", key, expected)
    return {k: _build_kind(parts[k], field.declared, f"{name}.{k}", k) for k in sorted(parts)}


def _build_kind(value: Any, declared: Setting, name: str, block_name: str = "") -> Any:
    values = dict(_get_values(value, name, "a block of fields, one of them its kind"))
    if "kind" not in values:
        accepted = kinds.list_accepted(declared.package)
        raise UserError(f"The configuration lacks {name}.kind: expected {accepted}.")
    kind = values.pop("kind")
    cls = kinds.load(declared.package, kind, declared.attribute, name=f"{name}.kind")
    remedy = f"the kind {kind!r} has that field; {_KIND_CHANGES}"
    return _build(cls, values, name, remedy, kind, block_name)


def _get_values(config: Any, name: str, expected: str) -> Mapping[str, Any]:
    values = config.to_dict() if isinstance(config, ConfigDict) else config
    return values if isinstance(values, Mapping) else refuse(name, values, expected)


def _is_flag_name(key: Any) -> bool:
    """Returns whether a command-line flag can address a block of that name."""
    is_name = isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)
    return is_name and not hasattr(ConfigDict, key)


def _check_value(value: Any, field: Field, name: str) -> Any:
    """Checks a value and converts it to the declared type: lists to tuples, 1 to 1.0."""
    accepted = _describe_accepted(field)
    is_list = isinstance(value, list | tuple)
    items = tuple(value) if is_list else (value,)
    types = (int, float) if field.item is float else (field.item,)  # Python's True is an int.
    if (
        is_list != (field.length is not None)
        or not all(type(item) in types for item in items)
        or (field.length and len(items) != field.length)
    ):
        refuse(name, value, accepted if field.declared.choices else field.words)
    items = tuple(map(_to_float, items)) if field.item is float else items
    if (field.declared.non_empty and not items) or not all(_accepts(i, field) for i in items):
        refuse(name, value, accepted)
    return items if is_list else items[0]


def _to_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # An integer of more than 308 digits.
        return math.inf


def _accepts(item: Any, field: Field) -> bool:
    return (
        (not field.declared.choices or item in field.declared.choices)
        and (not isinstance(item, float) or math.isfinite(item))
        and (field.least is None or item >= field.least)
        and all(_BOUNDS[key](item, bound) for key, bound in _get_bounds(field.declared).items())
    )


def _get_bounds(declared: Setting) -> dict[str, float]:
    bounds = {key: getattr(declared, key) for key in _BOUNDS}
    return {key: bound for key, bound in bounds.items() if bound is not None}


def _describe_bounds(declared: Setting) -> str:
    return " and ".join(f"{k.replace('_', ' ')} {v}" for k, v in _get_bounds(declared).items())


def _describe_accepted(field: Field) -> str:
    """Describes the values that a field accepts."""
    declared, bounds = field.declared, _describe_bounds(field.declared)
    choices = [str(choice) for choice in declared.choices]
    if field.item is None:
        return kinds.list_accepted(declared.package)
    if choices and field.length is None:
        return f"one of {', '.join(choices)}"
    if choices:
        listed = " and ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
        return f"a selection of {listed}, such as ({declared.choices[-1]!r},)"
    if bounds and field.length is None:
        return bounds if " and " in bounds else f"{bounds}, and finite"
    if bounds:
        of = "of " if bounds.startswith("at") else ""  # "numbers above 0", "numbers of at least 1"
        return _as_non_empty(f"a list of {_PLURALS[field.item]} {of}{bounds}", declared)
    if field.item is float:
        return "a finite number" if field.length is None else f"{field.words}, all finite"
    return field.words


def _as_non_empty(words: str, declared: Setting) -> str:
    return words.replace("a list", "a non-empty list", 1) if declared.non_empty else words


def get_fields(cls: Any) -> dict[str, Field]:
    """Returns the declared fields of a class of settings, without the `name` of its block."""
    where = f"{cls.__module__}.{cls.__qualname__}"
    if not dataclasses.is_dataclass(cls):
        raise UserError(f"{where} is no dataclass: declare settings in a frozen dataclass.")
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise UserError(f"The annotations of {where} cannot be read: {error}.") from error
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if _takes_name(cls):
        del fields["name"]
    return {k: _read_field(f.metadata, hints[k], f"{where}.{k}") for k, f in fields.items()}


def _takes_name(cls: Any) -> bool:
    """Returns whether a class has a plain field `name` for the name of its block."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return any(field.name == "name" and "setting" not in field.metadata for field in fields)


def _read_field(metadata: Mapping[str, Any], annotation: Any, where: str) -> Field:
    declared = metadata.get("setting", Setting())
    if declared.package:
        return Field(declared)
    if dataclasses.is_dataclass(annotation):
        return Field(declared, block=typing.cast(type, annotation))
    if "setting" not in metadata:
        raise UserError(f"{where} is not declared: write it as setting(default, sentence).")
    field = _read_type(annotation, declared)
    if field is None:
        raise UserError(f"{where} is {annotation}: settings have no such type.")
    return field._replace(words=_as_non_empty(field.words, declared))


def _read_type(annotation: Any, declared: Setting) -> Field | None:
    """Reads the type of a field's values; None if settings have no such type."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        base, words, *least = args
        field = _read_type(base, declared)
        return field and field._replace(words=words, least=least[0] if least else None)
    if origin is Literal and all(isinstance(choice, str) for choice in args):
        return Field(dataclasses.replace(declared, choices=args), str, _WORDS[str])
    if origin is tuple and args[0] in _PLURALS and args[1:] == (...,):
        return Field(declared, args[0], f"a list of {_PLURALS[args[0]]}", length=0)
    if origin is tuple and args[0] in _PLURALS and len(set(args)) == 1:
        words = f"a list of {len(args)} {_PLURALS[args[0]]}"
        return Field(declared, args[0], words, length=len(args))
    return Field(declared, annotation, _WORDS[annotation]) if annotation in _WORDS else None


def describe(settings: Any, name: str = "config") -> list[Row]:
    """Lists all fields of a settings object, or of a class with its defaults."""
    return list(_describe(settings() if isinstance(settings, type) else settings, name))


def _describe(settings: Any, prefix: str) -> Iterator[Row]:
    for key, field in get_fields(type(settings)).items():
        value, name, sentence = getattr(settings, key), f"{prefix}.{key}", field.declared.sentence
        if field.item and not field.declared.choices:
            yield Row(name, field.words, value, _describe_bounds(field.declared), sentence)
        elif field.item:
            yield Row(name, field.words, value, _describe_accepted(field), sentence)
        elif field.declared.named:
            yield Row(name, "blocks by name", tuple(value), _describe_accepted(field), sentence)
            for part_name, part in value.items():
                yield from _describe_block(part, field, f"{name}.{part_name}", "Kind of the block.")
        elif field.declared.package:
            yield from _describe_block(value, field, name, sentence)
        else:
            yield from _describe(value, name)


def _describe_block(settings: Any, field: Field, name: str, sentence: str) -> Iterator[Row]:
    kind = kinds.get_kind(type(settings), field.declared.package)
    yield Row(f"{name}.kind", "a text", kind, _describe_accepted(field), sentence)
    yield from _describe(settings, name)
