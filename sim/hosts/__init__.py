"""Who moves the ports: Verilated library, cocotb, reference model, board."""
