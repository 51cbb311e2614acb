"""The software: irq core, irqchip drivers and device drivers, as coroutines on model CPUs.

Of :mod:`hdl` this package imports only what a driver would find in header files: the register
maps of :mod:`hdl.registers`, and the enumerations of :mod:`hdl.cpu_port` and :mod:`hdl.probe`.
It imports no simulator, no :mod:`ctypes` and nothing of :mod:`sim`, so the same software runs on
every host.
"""
