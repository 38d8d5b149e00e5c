"""Models of people, who face the camera: pedestrians, and seated riders in helmet and vest."""

from data_prep.toy_cities import models
from data_prep.toy_cities.materials import Material
from data_prep.toy_cities.models import Face, Model, Turn


def _person(name: str, stride: float) -> Model:
    """Creates a pedestrian, 1 unit high; stride: half the distance between the feet."""
    kind = "person"
    legs = [
        (
            (-0.11, 0.48, 0.0),
            (0.0, 0.48, 0.0),
            (-stride + 0.06, 0.0, 0.0),
            (-stride - 0.06, 0.0, 0.0),
        ),
        ((0.0, 0.48, 0.0), (0.11, 0.48, 0.0), (stride + 0.06, 0.0, 0.0), (stride - 0.06, 0.0, 0.0)),
    ]
    arms = [
        ((-0.14, 0.82, 0.0), (-0.22, 0.46, 0.0), (-0.15, 0.44, 0.0), (-0.08, 0.8, 0.0)),
        ((0.14, 0.82, 0.0), (0.22, 0.46, 0.0), (0.15, 0.44, 0.0), (0.08, 0.8, 0.0)),
    ]
    torso = ((-0.1, 0.44, 0.0), (-0.15, 0.8, 0.0), (-0.08, 0.86, 0.0), (0.08, 0.86, 0.0),
             (0.15, 0.8, 0.0), (0.1, 0.44, 0.0))  # fmt: skip
    faces = [Face(points, kind, Material.TROUSERS, second=True) for points in legs]
    faces += [Face(points, kind, Material.CLOTHES, 0.8) for points in arms]
    faces.append(Face(torso, kind, Material.CLOTHES))
    faces.append(Face(models.disc((0.0, 0.935), 0.085), kind, Material.HAIR))
    faces.append(Face(models.disc((0.0, 0.91), 0.068), kind, Material.SKIN))
    return Model(name, tuple(faces), Turn.UPRIGHT)


def _rider() -> Model:
    """Creates a rider seated at 0.85 m, in metres; the legs hang down beside the vehicle."""
    kind = "rider"
    left_thigh = ((-0.1, 1.02, 0.0), (-0.38, 0.92, 0.0), (-0.36, 0.74, 0.0), (-0.04, 0.8, 0.0))
    left_shin = ((-0.38, 0.9, 0.0), (-0.36, 0.34, 0.0), (-0.2, 0.34, 0.0), (-0.22, 0.9, 0.0))
    legs = [Face(p, kind, Material.TROUSERS, second=True) for p in (left_thigh, left_shin)]
    arm = Face(
        ((-0.26, 1.5, 0.0), (-0.46, 1.18, 0.0), (-0.36, 1.08, 0.0), (-0.14, 1.36, 0.0)),
        kind, Material.VEST, 0.85,
    )  # fmt: skip
    torso = ((-0.2, 0.82, 0.0), (-0.3, 1.42, 0.0), (-0.16, 1.58, 0.0), (0.16, 1.58, 0.0),
             (0.3, 1.42, 0.0), (0.2, 0.82, 0.0))  # fmt: skip
    faces = [*legs, *models.mirrored(legs), arm, *models.mirrored([arm])]
    faces.append(Face(torso, kind, Material.VEST))
    faces.append(Face(models.disc((0.0, 1.72), 0.2), kind, Material.HELMET, second=True))
    visor = ((-0.12, 1.6, 0.0), (-0.14, 1.7, 0.0), (0.14, 1.7, 0.0), (0.12, 1.6, 0.0))
    faces.append(Face(visor, kind, Material.SKIN))
    return Model("rider", tuple(faces), Turn.UPRIGHT)


MODELS = (_person("walker", 0.11), _person("stander", 0.05), _rider())
