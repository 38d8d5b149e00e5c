import threading
import time

import jax
import numpy as np
import pytest

from alp_jax.errors import UserError
from alp_jax.run import feeding


def test_batches_come_in_order_and_on_the_device():
    with feeding.DeviceFeed(iter({"images": np.full(3, i)} for i in range(9)), jax.device_put) as f:
        for i in range(8):
            batch, _ = f.next_batch(after={})
            assert isinstance(batch["images"], jax.Array)
            np.testing.assert_array_equal(batch["images"], i)


def test_one_batch_ahead_is_placed_while_the_step_runs():
    placed = []
    second = threading.Event()

    def place(batch):
        placed.append(batch)
        if len(placed) == 2:
            second.set()
        return batch

    with feeding.DeviceFeed(iter(range(9)), place) as feed:
        feed.next_batch(after={})
        assert second.wait(10)  # Nobody has asked for it yet.
        time.sleep(0.05)
        assert placed == [0, 1]  # And not more than one.
        batch, waited = feed.next_batch(after={})
        assert (batch, waited) == (1, 0.0)


class Step:
    """What a step returns, while it still runs for some seconds."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def block_until_ready(self) -> None:
        time.sleep(self.seconds)


@pytest.mark.parametrize(("step_seconds", "low", "high"), [(0.0, 0.3, 0.6), (0.2, 0.1, 0.35)])
def test_waiting_counts_from_the_end_of_the_step_before(step_seconds, low, high):
    def slow():
        while True:
            time.sleep(0.4)
            yield np.zeros(())

    with feeding.DeviceFeed(slow(), lambda batch: batch) as feed:
        feed.next_batch(after={})
        _, waited = feed.next_batch(after=Step(step_seconds))
    assert low < waited < high


def test_an_error_while_reading_reaches_the_caller_at_its_batch():
    def batches():
        yield 0
        raise UserError("Record 1 is corrupt.")

    with feeding.DeviceFeed(batches(), lambda batch: batch) as feed:
        assert feed.next_batch(after={})[0] == 0
        with pytest.raises(UserError, match="Record 1 is corrupt"):
            feed.next_batch(after={})
