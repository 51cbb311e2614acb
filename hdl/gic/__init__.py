"""A GICv3 subset: distributor, redistributors with LPIs, ITS, CPU interfaces."""
