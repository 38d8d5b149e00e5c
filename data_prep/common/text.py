"""Formats counts and long lists for messages."""

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """Formats a number with its noun: "1 image", "2,975 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def print_lines(lines: Sequence[str], limit: int, hint: str = "") -> None:
    """Prints the first `limit` lines, indented, and how many more there are, with a hint."""
    for line in lines[:limit]:
        print(f"    {line}")
    if len(lines) > limit:
        print(f"    and {len(lines) - limit:,} more{hint}")
