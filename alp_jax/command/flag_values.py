"""Describes the value of a flag that cannot be parsed."""

from collections.abc import Iterator, Sequence

from absl import flags

from alp_jax.errors import describe_near


def describe_wrong(values: flags.FlagValues, argv: Sequence[str]) -> str | None:
    """Describes the first flag whose value cannot be parsed; None if all can be."""
    for name, text in _list_given(values, argv):
        parser = values[name].parser
        try:
            parser.parse(text)
        except (ValueError, TypeError, OverflowError):
            return f"--{name} is {text!r}: expected {_describe_accepted(parser, text)}."
    return None


def _list_given(values: flags.FlagValues, argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (name, text) of the known flags in a command that have a value."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if not argument.startswith("-"):
            continue
        name, equals, text = argument.lstrip("-").partition("=")
        if name in values and (equals or not values[name].boolean):
            yield name, text if equals else following


def _describe_accepted(parser: flags.ArgumentParser, text: str) -> str:
    if isinstance(parser, flags.EnumParser):
        return f"one of {', '.join(parser.enum_values)}{describe_near(text, parser.enum_values)}"
    if isinstance(parser, flags.BooleanParser):
        return "true or false"
    if isinstance(parser, flags.IntegerParser | flags.FloatParser):
        words = "a whole number" if isinstance(parser, flags.IntegerParser) else "a number"
        bounds = [
            f"at {side} {bound}"
            for side, bound in (("least", parser.lower_bound), ("most", parser.upper_bound))
            if bound is not None
        ]
        return " ".join([words, *([f"of {' and '.join(bounds)}"] if bounds else [])])
    if parser.flag_type() == "tuple":
        return "values with commas between them, such as 720,1280"
    return "a block of fields: a flag overrides one field, --config.BLOCK.FIELD=VALUE"
