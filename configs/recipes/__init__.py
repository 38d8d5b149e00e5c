"""Holds what several configurations share."""
