"""The endpoint under software that does not know us: the root complex of cocotbext-pcie.

Everything software learns or does here goes through that root complex, packet by packet, and is
answered by the gateware; see :mod:`sim.pcie`.
"""

import pytest

from hdl.pci.endpoint import EndpointConfig
from hdl.registers import pci
from hdl.registers.pci import CapabilityId
from sim.design import Design
from sim.hosts.cocotb import SimulationError, simulate
from sim.pcie.top import EndpointTop

FACTORY = f"{EndpointTop.__module__}:{EndpointTop.__qualname__}"
NARROW = Design(EndpointConfig(msi="32", msi_vectors=4, bar_bits=32), FACTORY)
WIDE = Design(
    EndpointConfig(
        msi="64", maskable=True, msi_vectors=4, msix_vectors=8, bar_bits=64, device_id=0xBEEF
    ),
    FACTORY,
)
BOTH = pytest.mark.parametrize("design", [NARROW, WIDE], ids=["narrow", "wide"])

BUS_1 = 0x100
"""Requester id of the device behind the only root port."""
MESSAGES = 0x8000_0000
"""Where the root complex wants its messages."""
ALL_ONES = 0xFFFF_FFFF


def run(design, job):
    return simulate(design, f"tests.unit.pcie_host_jobs:{job}")


@BOTH
def test_it_is_found_sized_and_placed(design):
    config = design.config
    seen = run(design, "discover")
    assert seen["ids"] == (pci.VENDOR_ID, config.device_id) * 2
    assert seen["class"] == (pci.CLASS_CODE, pci.REVISION)
    assert seen["header"] == (0, False)
    assert seen["express"] == (True, 0, 0), "an endpoint with payloads of up to 128 bytes"
    assert (seen["pcie_id"], seen["neighbours"]) == (BUS_1, 0)
    numbers = {"msi": CapabilityId.MSI, "msix": CapabilityId.MSIX, "express": CapabilityId.EXPRESS}
    assert seen["capabilities"] == [
        (numbers[name], config.capability(name)) for name in config.capabilities
    ]
    assert seen["extended"] == []
    assert seen["sizes"] == [pci.BAR_SIZE, 0, 0, 0, 0, 0]
    assert seen["address"] > 0
    assert seen["address"] % pci.BAR_SIZE == 0
    assert seen["bar"] == (0, seen["address"])
    assert seen["enabled_bar"] == (1, seen["address"])
    assert seen["identity"] == pci.IDENTITY
    assert seen["writes"] == []


def test_memory_requests_of_every_shape_reach_the_registers():
    for what, (expected, read) in run(WIDE, "accesses").items():
        assert read == expected, what


@BOTH
def test_msi(design):
    seen = run(design, "msi")
    assert seen["intx"] == (1, True)
    assert seen["acknowledged"] == (0, False)

    assert seen["vectors"] == 4
    enabled = pci.MSI_FLAGS_ENABLE | 2 << 1 | 2 << 4
    if design is WIDE:
        enabled |= pci.MSI_FLAGS_64BIT | pci.MSI_FLAGS_MASKABLE
    assert seen["flags"] == enabled
    assert seen["message"] == (MESSAGES, 32)

    assert seen["no_master"] == ([], [], 2), "two events counted, no write, no handler"
    assert seen["sent"] == ([("MEM_WRITE", BUS_1, MESSAGES, 34)], [2])

    address, writes, memory, arrived = seen["data"]
    count = 4
    assert writes == [
        ("MEM_WRITE", BUS_1, address, count),
        ("MEM_WRITE", BUS_1, MESSAGES, 35),
    ], "the data goes before its message"
    assert memory == count.to_bytes(4, "little")
    assert arrived
    assert seen["master_again_off"] == ([], [2, 3])


def test_msix():
    seen = run(WIDE, "msix")
    vectors = WIDE.config.msix_vectors
    assert seen["vectors"] == vectors
    assert seen["flags"] == pci.MSIX_FLAGS_ENABLE | vectors - 1
    assert seen["messages"] == [(MESSAGES, vector) for vector in range(vectors)]
    used = [5, 0, vectors - 1]
    assert seen["sent"] == ([("MEM_WRITE", BUS_1, MESSAGES, vector) for vector in used], used)

    assert seen["masked"] == ([], 1 << 4), "nothing sent, vector 4 pending"
    message = 0xFEED_5EED
    written = [("MEM_WRITE_64", BUS_1, (1 << 40) + 0x80, message)]
    assert seen["unmasked"] == (written, 0, message.to_bytes(4, "little"))
    assert seen["no_master"] == ([], 1), "vector 0 fired once, when it could"


def test_what_does_not_answer_reads_as_nothing():
    seen = run(WIDE, "refusals")
    assert seen["memory_off"] == "Unsuccessful completion"
    assert seen["gone"] == ALL_ONES
    assert seen["memory_gone"] == "Unsuccessful completion"
    assert seen["past_the_adapter"] == (
        "config_access_response_valid was not high within 512 clocks"
    )
    status = pci.STATUS_CAPABILITIES << 16
    ids = WIDE.config.device_id << 16 | pci.VENDOR_ID
    assert seen["back"] == [ids, status, pci.BAR_TYPE_64], "as after reset"
    assert seen["output"] == "'intx' is not an input field of this design"


def test_an_expectation_that_fails_in_the_simulator_fails_here():
    with pytest.raises(SimulationError, match="a message without a reason: not within 60 clocks"):
        run(NARROW, "fail")
