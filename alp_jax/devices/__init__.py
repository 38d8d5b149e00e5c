"""Devices, processes and the device mesh."""
