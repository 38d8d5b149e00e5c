"""Additions to methods: one file each, whose `apply(config)` adds a term to any method.

A variant such as minent+alp is the method minent with the addition alp.
"""
