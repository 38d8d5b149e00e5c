"""A+E: averages the predictions of two networks, trained by AdvEnt and by MinEnt with ER.

Vu et al., CVPR 2019: 45.5 % mean IoU for GTA5 -> Cityscapes; 41.2 % over 16 classes and 48.0 % over
13 for SYNTHIA -> Cityscapes. Code: valeoai/ADVENT, advent+minent_pretrained.yml: the mean of the
softmax of both networks, which are trained apart. A study trains them:
python -m alp_jax.study --config=configs/toy_cities.py --workdir=runs/study --methods=a_plus_e
"""

# Method -> weight of its probabilities in the mean.
MEMBERS = {"advent": 0.5, "minent_er": 0.5}
