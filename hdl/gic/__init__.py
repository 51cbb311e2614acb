"""A GICv3 subset: distributor, redistributors with LPIs, ITS, physical and virtual CPU interface."""
