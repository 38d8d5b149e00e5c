"""Compares the methods of the paper's Tables 1 and 2 on the built-in cities, and alignment on top.

  python -m data_prep.toy_cities --data_dir=datasets
  python -m alp_jax.study --experiment=methods --workdir=runs/methods --jobs=2

Every method chooses from three candidates, by mean IoU on the target's validation split (so with
target labels) with a seed that is not reported; the scores are of its test split, of five seeds.
Weights of losses are 3, 10 or 30 times the published ones, as a run has 500 steps in place of
100,000 and more; what is no such weight is varied around its published value.
"""

from collections.abc import Mapping
from typing import Any

from alp_jax.study.experiment import Entry, Experiment, over, with_alignment

_FACTORS = (3.0, 10.0, 30.0)
_ALIGNMENT = tuple(0.001 * factor for factor in _FACTORS)


def _scale(**published: float) -> tuple[Mapping[str, Any], ...]:
    """Creates candidates with the weights of terms at _FACTORS times the published ones."""
    return tuple(
        {f"terms.{term}.weight": weight * factor for term, weight in published.items()}
        for factor in _FACTORS
    )


_LEVELS = {"": 0.001, "_aux": 0.0002}
_ENTROPY = _scale(**{f"entropy{level}": weight for level, weight in _LEVELS.items()})
_GAME = _scale(**{f"adversarial{level}": weight for level, weight in _LEVELS.items()})
_PORTION = over("rounds.portion", 0.1, 0.2, 0.4)
_PENALTY = over("terms.regularizer.weight", 0.003, 0.01, 0.03)
_DISPUTE = over("terms.discrepancy.weight", 0.3, 1.0, 3.0)

EXPERIMENT = Experiment(
    config="configs/toy_cities.py",
    entries=(
        Entry("source_only", title="Source-only"),
        Entry("target_bn", title="Target batch norm"),
        Entry("ap_ci", _scale(adversarial=0.001), title="AP-CI"),
        Entry("agp_gi", _scale(adversarial=0.001), title="AGP-GI"),
        Entry("alp_gi", _scale(adversarial=0.001), title="ALP-GI"),
        *with_alignment(Entry("adaptsegnet", _GAME, title="AdaptSegNet"), *_ALIGNMENT),
        Entry("adaptsegnet_ls", _scale(adversarial=0.01), title="AdaptSegNet, least squares"),
        Entry("road", _scale(adversarial=0.001), title="ROAD's form, grid of 2x2"),
        Entry(
            "cycada_stage_2",
            over("terms.adversarial.weight", 0.01, 0.03, 0.1),
            title="CyCADA's second stage, source not translated",
        ),
        *with_alignment(Entry("minent", _ENTROPY, title="MinEnt"), *_ALIGNMENT),
        Entry("minent_er", _ENTROPY, title="MinEnt + ER"),
        Entry("minent_cp", _scale(entropy=0.001, class_ratio=0.001), title="MinEnt + CP"),
        Entry("advent", _GAME, title="AdvEnt"),
        Entry("a_plus_e", title="A+E"),
        *with_alignment(Entry("clan", _scale(adversarial=0.001), title="CLAN"), *_ALIGNMENT),
        *with_alignment(Entry("mcd", _DISPUTE, title="MCD (DeepLabv2)"), *_ALIGNMENT),
        Entry("adr", _DISPUTE, title="ADR (DeepLabv2)"),
        *with_alignment(
            Entry("fda", over("views.source.beta", 0.02, 0.04, 0.08), title="FDA"), *_ALIGNMENT
        ),
        Entry("st", _PORTION, title="ST"),
        *with_alignment(Entry("cbst", _PORTION, title="CBST"), *_ALIGNMENT),
        Entry("cbst_sp", _PORTION, title="CBST-SP"),
        Entry("mrl2", _PENALTY, title="MRL2"),
        Entry("mrent", _PENALTY, title="MRENT"),
        *with_alignment(Entry("mrkld", _PENALTY, title="MRKLD"), *_ALIGNMENT),
        *with_alignment(
            Entry("lrent", over("teacher.temperature", 0.1, 0.25, 0.5), title="LRENT"), *_ALIGNMENT
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    tuning_seeds=(5,),
    # Scores of the last step alone are reported.
    fields={"evaluation.every_steps": 500, "log_every_steps": 100, "tensorboard": False},
    seconds_per_step=0.12,
)
