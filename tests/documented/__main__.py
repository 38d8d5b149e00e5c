"""Follows the pages from the first to the last, every command as it stands; slow.

python -m tests.documented
"""

import pathlib
import shutil
import tempfile

import numpy as np
from PIL import Image

from tests.documented import check, find, journey

# docs/own_data.md evaluates "train[:200]".
_NUM_TRAIN = 200


def main() -> None:
    """Runs the pages' commands, then all that these print and save."""
    with tempfile.TemporaryDirectory() as name, journey.small_world(pathlib.Path(name), _NUM_TRAIN):
        folder, printed = pathlib.Path(name), []
        _draw_masks(folder)
        for page in ("docs/index.md", "docs/own_data.md", "docs/own_parts.md"):
            print(page, flush=True)
            printed += journey.follow(page)
        shutil.copytree("runs/toy_cities/alp_gi", "runs/alp")
        shutil.copytree("own/new_frames", "frames")
        printed += journey.follow("docs/predict.md")
        for command in find.find_in_page(find.list_pages()[0], inline=False):  # README.md
            words = command.text.split()
            if words[0] == "python" and words[2] in ("alp_jax.study", "alp_jax.domain_shift"):
                print(command.text, flush=True)
                printed += journey.find_printed(journey.run(command.text))
        printed += journey.find_saved(folder)
        for text in sorted(set(printed)):
            check.check(text)
        print(f"Every command worked; so can the {len(set(printed))} that they print or save.")


def _draw_masks(folder: pathlib.Path) -> None:
    """Draws the walls of docs/own_data.md: images with masks of 0 and 255, and images without."""
    rng = np.random.default_rng(0)
    for name in ("walls/images", "walls/masks", "my_walls"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            image = rng.integers(0, 256, (64, 128, 3)).astype(np.uint8)
            pixels = image[..., 0] // 128 * 255 if name.endswith("masks") else image
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


if __name__ == "__main__":
    main()
