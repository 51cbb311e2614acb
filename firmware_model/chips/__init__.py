"""Drivers of interrupt hardware: how each controller is read and written."""
