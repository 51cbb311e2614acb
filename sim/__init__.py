"""Hosts, monitors, scenarios, sweeps, waves, reports and the command line."""
