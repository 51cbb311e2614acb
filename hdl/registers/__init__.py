"""Register offsets, fields and encodings: the only copy. Gateware, software and tests read it."""
