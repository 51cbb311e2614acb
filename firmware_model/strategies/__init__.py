"""Ways to do the thing in question: small classes, each of which overrides one decision."""
