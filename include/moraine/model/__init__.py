"""Frozen types of everything stored; no I/O, no clock."""
