"""Gateware of the interrupt laboratory. Imports Amaranth and nothing else of the project."""
