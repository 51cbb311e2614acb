"""The module cocotb loads inside a simulator."""

import cocotb

from .cocotb import run_job


@cocotb.test()
async def job(dut):
    """One job."""
    await run_job(dut)
