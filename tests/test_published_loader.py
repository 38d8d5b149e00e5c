import numpy as np

from alp_jax.data import pipeline
from alp_jax.data.labels import load_label_set
from alp_jax.data.settings import DataSettings
from benchmarks import published_loader, street_frames
from data_prep import cityscapes, gta5

SOURCE_SIZE, TARGET_SIZE = (45, 80), (32, 64)


def test_published_loader_and_records_at_either_size_give_the_same_pairs(tmp_path):
    source, target = street_frames.write(tmp_path / "raw", 3, distinct=3, scale=16)
    pairs = published_loader.PublishedPairs(source, target, SOURCE_SIZE, TARGET_SIZE)
    theirs = [pairs[index] for index in range(len(pairs))]
    data_dir = f"--data_dir={tmp_path / 'datasets'}"
    for size in ([], ["--size=45,80"]):
        assert gta5.COMMAND.main(["", f"--raw_dir={source}", data_dir, *size]) == 0
    for size in ([], ["--size=32,64"]):
        flags = [f"--raw_dir={target}", data_dir, "--configs=unlabelled", *size]
        assert cityscapes.COMMAND.main(["", *flags]) == 0
    for suffixes in (("", ""), ("_45x80", "_32x64")):
        settings = DataSettings(
            data_dir=str(tmp_path / "datasets"),
            source=f"gta5/all{suffixes[0]}",
            source_size=SOURCE_SIZE,
            target=f"cityscapes/unlabelled{suffixes[1]}",
            target_size=TARGET_SIZE,
        )
        batches = pipeline.create_train_batches(
            settings, seed=0, label_set=load_label_set("cityscapes_19"), domains=pipeline.DOMAINS
        )
        epoch = [batches[step].batch for step in range(3)]
        sources = [(b["source"].images[0], b["source"].labels[0]) for b in epoch]
        assert_same_pictures([image for image, _ in sources], [pair[0] for pair in theirs])
        assert_same_pictures([b["target"].images[0] for b in epoch], [pair[2] for pair in theirs])
        assert sorted(label.tobytes() for _, label in sources) == sorted(
            pair[1].astype(np.uint8).tobytes() for pair in theirs
        )


def assert_same_pictures(ours, theirs) -> None:
    """Ours are uint8 RGB in any order, theirs BGR with the mean subtracted, channels first."""
    restored = [
        np.round(image.transpose(1, 2, 0) + published_loader.MEAN)[:, :, ::-1] for image in theirs
    ]
    assert len({image.tobytes() for image in ours}) == len(ours) == 3
    assert {image.tobytes() for image in ours} == {
        image.astype(np.uint8).tobytes() for image in restored
    }
