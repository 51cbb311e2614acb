"""Real boards: a machine with a serial line, and a sequencer that races without a host."""
