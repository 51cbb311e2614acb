"""Proofs: properties of the blocks, and how they are decided."""
