"""Whole systems: chips, core, drivers and tasks put together on a machine."""
