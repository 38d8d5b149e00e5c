"""Compares methods on the built-in cities, and what local alignment adds to each.

  python -m data_prep.toy_cities --data_dir=datasets
  python -m alp_jax.study --experiment=methods --workdir=runs/methods

Every weight is chosen from three, by mean IoU on the target's validation split, with a seed that is
not reported; the scores are of its test split.
"""

from alp_jax.study.experiment import Entry, Experiment, over, with_alignment

_WEIGHTS = (0.003, 0.01, 0.03)

EXPERIMENT = Experiment(
    config="configs/toy_cities.py",
    entries=(
        *with_alignment(Entry("source_only", title="Source-only"), *_WEIGHTS),
        *with_alignment(
            Entry("advent", over("terms.adversarial.weight", *_WEIGHTS), title="AdvEnt"), *_WEIGHTS
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    tuning_seeds=(5,),
    seconds_per_step=0.25,
)
