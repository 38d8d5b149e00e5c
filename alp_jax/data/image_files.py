"""Tells what image files say before their pixels are read, and why they cannot be read."""

PNG_GREY, PNG_RGB, PNG_PALETTE = 0, 2, 3
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class ImageError(ValueError):
    """A file cannot be read as an image.

    Attributes:
      reason: completes "FILE ...".
      remedy: what to do; empty if it is not known. The message has both.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        self.reason, self.remedy = reason, remedy
        super().__init__(f"{reason}: {remedy}" if remedy else reason)


def describe_png(data: bytes) -> tuple[int, int] | None:
    """Returns (bits per channel, colour type) of a PNG file; None for any other file.

    Pillow silently reduces 16 bits to 8, and stretches fewer than 8.
    """
    return (data[24], data[25]) if data.startswith(_PNG_SIGNATURE) and len(data) > 25 else None
