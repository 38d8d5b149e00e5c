"""Checks that a change of the code leaves every number as it was (`python -m tests.same_bits`)."""
