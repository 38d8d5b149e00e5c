"""Interprets the errors of the domain classifier as the paper does, in one sentence.

Cicek et al., ACCV 2020 (sections 3 and 4.3), reason about what a discriminator of predictions could
learn from the layout of classes alone, if predictions were as good as labels:

- Whole label maps that are told apart easily differ honestly, by cameras and cities. Aligning whole
  predictions would penalise these differences.
- On a patch size with an error near chance, a discriminator has nothing to learn.
- In between, where it is "better than luck" but cannot "reduce validation error below 20%", it can
  correct shapes without seeing the layout; this was the paper's best patch size, 256 (Figure 8).

Whole maps hold all that their patches do. So if patches are told apart better, or all maps get the
same answer, the classifier has not learned yet, and its errors say nothing.

The paper gives no numbers but 20 % and "close to luck (50%)". The bounds below are ours. Errors are
means over runs, and within a few points of the truth if a few hundred maps validate. The sentence
says what the paper's reasoning suggests; it predicts no result.
"""

import dataclasses
from collections.abc import Sequence

EASILY_TOLD_APART = 0.10  # Error at most this.
NEAR_CHANCE = 0.40  # Error at least this.
PAPERS_CHOICE = 0.20  # Error of the paper's best patch size.
NOISE = 0.05  # Differences of errors up to this are by chance.


@dataclasses.dataclass(frozen=True)
class PatchSummary:
    """Errors of one patch size, in [0, 1], over its runs.

    Attributes:
      patch_size: side in pixels; None for whole maps.
      final_error: mean error of a run's last validations, averaged over runs.
      final_error_std: standard deviation over runs (n - 1); None for a single run.
      steps_to_20_percent: for each run, the first validated step with at most 20 % error, or None.
      is_constant: whether every run ended with the same answer for all maps.
    """

    patch_size: int | None
    final_error: float
    final_error_std: float | None
    steps_to_20_percent: tuple[int | None, ...]
    is_constant: bool = False

    def describe_error(self) -> str:
        """Formats mean ± standard deviation in percent, without the percent sign."""
        mean = f"{100 * self.final_error:.1f}"
        return (
            mean if self.final_error_std is None else f"{mean} ± {100 * self.final_error_std:.1f}"
        )

    def describe(self) -> str:
        """Formats the name and error of the patch size."""
        return f"{describe_patch(self.patch_size)}: {self.describe_error()} %"


def patch_name(patch_size: int | None) -> str:
    """Names a patch size in files."""
    return "whole" if patch_size is None else str(patch_size)


def describe_patch(patch_size: int | None) -> str:
    """Names a patch size for people."""
    return "whole maps" if patch_size is None else f"patches of {patch_size}"


def advise(summaries: Sequence[PatchSummary], *, num_steps: int, size: tuple[int, int]) -> str:
    """Says in one sentence whether local alignment suits the pair, and on which patch size.

    Candidates are patch sizes that are neither told apart easily nor near chance, and harder than
    whole maps. The advice names the one whose error is nearest to the paper's 20 %.

    Args:
      summaries: whole maps and at least one patch size, in any order.
      num_steps: steps of each training.
      size: (height, width) of the maps, pixels; patch sizes refer to it.
    """
    whole = next((s for s in summaries if s.patch_size is None), None)
    patches = sorted(
        (s for s in summaries if s.patch_size is not None), key=lambda s: s.patch_size or 0
    )
    if whole is None or not patches:
        return "No advice yet: whole maps and at least one patch size have to be finished."
    context = f"errors after {num_steps} steps, 50 % is chance"
    between = [
        s
        for s in patches
        if max(EASILY_TOLD_APART, whole.final_error) < s.final_error < NEAR_CHANCE
    ]
    fault = _find_unlearned(whole, patches, is_needed=not between)
    if fault:
        return (
            f"No advice: {fault}, so the classifier has not learned yet ({context}); raise "
            "--config.num_steps."
        )
    if whole.final_error >= NEAR_CHANCE:
        return _advise_near_chance(whole, context)
    if whole.final_error > EASILY_TOLD_APART:
        return _advise_hard_whole(whole, between, context)
    if between:
        best = min(between, key=lambda s: abs(s.final_error - PAPERS_CHOICE))
        return (
            f"The paper's reasoning speaks for local alignment on patches of {best.patch_size} "
            f"(in maps of {size[0]}x{size[1]}): the domains of whole label maps are told apart "
            f"easily ({whole.describe_error()} %), so that aligning them would penalise honest "
            f"differences, while patches of that size are told apart less easily "
            f"({best.describe_error()} %; the paper's best size had about 20 %; {context})."
        )
    return _advise_without_between(whole, patches, context)


def _find_unlearned(
    whole: PatchSummary, patches: Sequence[PatchSummary], *, is_needed: bool
) -> str | None:
    """Finds what shows that the classifier has not learned yet; None if nothing does.

    Args:
      whole: whole maps.
      patches: patch sizes.
      is_needed: whether the advice rests on patch sizes that are near chance.
    """
    for summary in (whole, *(patches if is_needed else ())):
        if summary.is_constant:
            return (
                f"{describe_patch(summary.patch_size)} of both domains all get the same answer "
                "(an error of 0 % on one domain and 100 % on the other)"
            )
    easiest = min(patches, key=lambda s: s.final_error)
    if easiest.final_error < whole.final_error - NOISE:
        return (
            f"{easiest.describe()} is below {whole.describe()}, although whole maps hold all that "
            "patches do"
        )
    return None


def _advise_near_chance(whole: PatchSummary, context: str) -> str:
    return (
        f"Alignment of any scope will do: even whole label maps can hardly be told apart "
        f"({whole.describe_error()} %; {context}), so the layouts of classes differ little and "
        "local alignment has no advantage to expect, unless more --config.num_steps change this."
    )


def _advise_hard_whole(whole: PatchSummary, between: Sequence[PatchSummary], context: str) -> str:
    start = (
        "Local alignment has less to gain here than in the paper: whole label maps are not told "
        f"apart easily ({whole.describe_error()} %; {context})"
    )
    if between:
        best = min(between, key=lambda s: abs(s.final_error - PAPERS_CHOICE))
        return (
            f"{start}; try patches of {best.patch_size} ({best.describe_error()} %), the closest "
            "to the paper's 20 %."
        )
    return f"{start}, and no patch size is both harder than that and better than chance."


def _advise_without_between(
    whole: PatchSummary, patches: Sequence[PatchSummary], context: str
) -> str:
    """Advises when whole maps are easy, and every patch size is easy, too, or near chance."""
    hard = [s for s in patches if s.final_error >= NEAR_CHANCE]
    if hard:
        lower = hard[-1]
        upper = next((s for s in patches if (s.patch_size or 0) > (lower.patch_size or 0)), whole)
        return (
            "Local alignment may help on a size that was not tried, between "
            f"{lower.describe()}, near chance, and {upper.describe()}, told apart easily "
            f"({context}): give --config.patch_sizes in between."
        )
    smallest = patches[0]
    return (
        f"Patches of these sizes do not help: even the smallest are told apart easily "
        f"({smallest.describe()}; {whole.describe()}; {context}), so the domains' classes, or how "
        "they are labelled, differ locally too, and alignment of any scope penalises honest "
        "differences; try smaller --config.patch_sizes, or check both label sets."
    )
