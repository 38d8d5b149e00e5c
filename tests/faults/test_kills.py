"""A kill of each kind in CI; `python -m tests.faults.kills --kills=30` for all."""

from tests.faults import command, kills


def test_a_training_that_is_killed_ends_in_the_bits_of_one_that_is_not(tmp_path, data_dir):
    outcome = kills.run(
        command.fork, tmp_path, data_dir, kills=len(kills.KINDS), damages=True, num_steps=60
    )
    assert outcome["kills"] == dict.fromkeys(kills.KINDS, 1)
    assert outcome["trainings_with_the_same_bits"] >= 1
    assert max(outcome["resumed_from_steps"]) > 0
