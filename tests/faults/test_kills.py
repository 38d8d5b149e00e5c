"""Five kills in CI; `python -m tests.faults.kills --kills=30` for all."""

from tests.faults import command, kills


def test_a_training_that_is_killed_ends_in_the_bits_of_one_that_is_not(tmp_path, data_dir):
    outcome = kills.run(command.fork, tmp_path, data_dir, kills=5, damages=True)
    assert sum(outcome["kills"].values()) == 5
    assert set(outcome["kills"]) == set(kills.KINDS)
    assert outcome["trainings_with_the_same_bits"] >= 1
    assert max(outcome["resumed_from_steps"]) > 0
