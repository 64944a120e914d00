"""Faults, injected at real points of real engines, and what is left afterwards."""
