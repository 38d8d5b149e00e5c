"""Devices, processes and the mesh over them."""
