"""PCI side: endpoints with MSI, MSI-X and INTx, and the host bridge they sit behind."""
