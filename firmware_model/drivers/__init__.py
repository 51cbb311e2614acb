"""Drivers of the devices that interrupt."""
