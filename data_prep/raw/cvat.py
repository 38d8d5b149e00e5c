"""Parses labelmap.txt, the colours of the classes in a "Segmentation mask 1.1" export of CVAT.

Synopsis:

  parse_labelmap("background:0,0,0::\\nroad:128,64,128::\\n")    # {"0,0,0": "background", ...}
"""

import re

_COLOUR = re.compile(r"[0-9]{1,3},[0-9]{1,3},[0-9]{1,3}")


def parse_labelmap(text: str) -> dict[str, str]:
    """Parses lines `label:color_rgb:parts:actions`; parts and actions are not used.

    Returns:
        Colour -> name.
    Raises:
        ValueError: if a line has another form, or a colour or name is there twice; the message is
            one line.
    """
    names: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, *rest = line.strip().split(":")
        if not name or not 1 <= len(rest) <= 3:
            raise ValueError(
                f"line {number}: {line.strip()!r}, where NAME:RED,GREEN,BLUE:: is expected"
            )
        if not _COLOUR.fullmatch(rest[0]):
            raise ValueError(
                f"line {number}: {name!r} has the colour {rest[0]!r}, where RED,GREEN,BLUE is "
                "expected"
            )
        if rest[0] in names:
            raise ValueError(
                f"line {number}: {names[rest[0]]!r} and {name!r} have the same colour {rest[0]}"
            )
        if name in names.values():
            raise ValueError(f"line {number}: the class {name!r} is there twice")
        names[rest[0]] = name
    return names
