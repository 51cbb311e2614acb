"""The PCI function of the reference model: capabilities, messages, pin, BAR (section 8b)."""

import pytest

from sim.reference import EndpointShape, Implementation, PciLayout, ReferenceMachine, Shape

RAM = 0x4000_0000
COMMAND, STATUS, MSI, MSIX = 0x04, 0x06, 0x50, 0x70
MEMORY, MASTER, INTX_DISABLE = 2, 4, 0x400
MMIO, ECAM = 0x1000_0000, 0x3F00_0000
TABLE, PBA = 0x1000, 0x1800


class FunctionRig(ReferenceMachine):
    """One function whose messages land in RAM, where their data can be read back."""

    def __init__(self, *endpoints, implementation=None, layout=None):
        super().__init__(Shape(cpus=1, spis=64, endpoints=endpoints), implementation, pci=layout)
        for k in range(len(endpoints)):
            self.config_write(k, COMMAND, MASTER | MEMORY, 2)
            self.config_write(k, 0x10, MMIO + 0x1_0000 * k)

    def address(self, value, high=None, k=0):
        self.config_write(k, MSI + 4, value)
        if high is not None:
            self.config_write(k, MSI + 8, high)

    def flags(self, enable=1, log2=0, k=0):
        self.config_write(k, MSI + 2, enable | log2 << 4, 2)

    def sent(self, address=RAM):
        """The data of the last message to ``address``; reading it forgets it."""
        data = int.from_bytes(self.ram_read(address, 4), "little")
        self.ram_write(address, bytes(4))
        return data

    def bar(self, offset, value=None, size=4, k=0):
        address = MMIO + 0x1_0000 * k + offset
        if value is None:
            return self.load(0, address, size)
        return self.store(0, address, value, size)

    def entry(self, n, address=RAM, data=0, masked=False):
        for i, word in enumerate((address & 0xFFFF_FFFF, address >> 32, data, masked)):
            self.bar(TABLE + 16 * n + 4 * i, word)


def msi_rig(msi="32", vectors=1, maskable=False, **others):
    rig = FunctionRig(EndpointShape(msi=msi, msi_vectors=vectors, maskable=maskable), **others)
    rig.address(RAM, 0 if msi == "64" else None)
    rig.data = MSI + (0xC if msi == "64" else 8)
    rig.config_write(0, rig.data, 0x1230, 2)
    return rig


# Layout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("msi", "maskable", "writable"),
    [
        ("32", False, {4: 0xFFFF_FFFC, 8: 0xFFFF, 0xC: 0, 0x10: 0}),
        ("64", False, {4: 0xFFFF_FFFC, 8: 0xFFFF_FFFF, 0xC: 0xFFFF, 0x10: 0, 0x14: 0}),
        ("32", True, {4: 0xFFFF_FFFC, 8: 0xFFFF, 0xC: 0xFF, 0x10: 0}),
        ("64", True, {4: 0xFFFF_FFFC, 8: 0xFFFF_FFFF, 0xC: 0xFFFF, 0x10: 0xFF, 0x14: 0}),
    ],
)
def test_msi_capability(msi, maskable, writable):
    rig = FunctionRig(EndpointShape(msi=msi, maskable=maskable, msi_vectors=8))
    assert rig.config_read(0, 0x34, 1) == MSI
    assert rig.config_read(0, MSI, 2) == 0x0005
    for offset, expected in writable.items():
        rig.config_write(0, MSI + offset, 0xFFFF_FFFF)
        assert rig.config_read(0, MSI + offset) == expected
    rig.config_write(0, MSI + 2, 0xFFFF, 2)
    constant = 3 << 1 | (msi == "64") << 7 | maskable << 8
    assert rig.config_read(0, MSI + 2, 2) == constant | 3 << 4 | 1  # no more than capable


def test_msix_capability():
    rig = FunctionRig(EndpointShape(msi="64", msix_vectors=33))
    assert rig.config_read(0, MSI, 2) == MSIX << 8 | 0x05
    assert rig.config_read(0, MSIX, 2) == 0x0011
    rig.config_write(0, MSIX + 2, 0xFFFF, 2)
    assert rig.config_read(0, MSIX + 2, 2) == 0xC000 | 32
    assert rig.config_read(0, MSIX + 4) == TABLE
    assert rig.config_read(0, MSIX + 8) == PBA
    for n in (0, 32):
        assert [rig.bar(TABLE + 16 * n + 4 * i) for i in range(4)] == [0, 0, 0, 1]
        for i in range(4):
            rig.bar(TABLE + 16 * n + 4 * i, 0xFFFF_FFFF)
        words = [rig.bar(TABLE + 16 * n + 4 * i) for i in range(4)]
        assert words == [0xFFFF_FFFC, 0xFFFF_FFFF, 0xFFFF_FFFF, 1]
    assert rig.bar(TABLE + 16) == 0
    assert rig.bar(TABLE + 16 * 33) == 0


def test_header():
    rig = FunctionRig(EndpointShape(msi="none", intx=True), EndpointShape(intx=False))
    assert rig.config_read(0, 0x00) == 0x0001_1209
    assert rig.config_read(0, 0x34, 1) == 0
    assert rig.config_read(0, STATUS, 2) == 0
    assert rig.config_read(1, STATUS, 2) == 1 << 4
    assert rig.config_read(0, 0x3D, 1) == 1
    assert rig.config_read(1, 0x3D, 1) == 0
    rig.config_write(0, 0x10, 0xFFFF_FFFF)
    assert rig.config_read(0, 0x10) == 0xFFFF_E000
    rig.config_write(0, 0x00, 0)
    rig.config_write(0, COMMAND, 0xFFFF_FFFF)
    assert rig.config_read(0, COMMAND) == MASTER | MEMORY | INTX_DISABLE
    assert rig.config_read(0, 0x00) == 0x0001_1209
    assert rig.config_read(0, 0xFFC) == 0


def test_64_bit_bar():
    rig = FunctionRig(EndpointShape(), layout=PciLayout(bar_64=True))
    for offset in (0x10, 0x14):
        rig.config_write(0, offset, 0xFFFF_FFFF)
    assert (rig.config_read(0, 0x10), rig.config_read(0, 0x14)) == (0xFFFF_E004, 0xFFFF_FFFF)


def test_byte_enables_respect_the_neighbours():
    rig = msi_rig("64")
    rig.config_write(0, MSI + 0xC, 0xBEEF, 2)
    rig.config_write(0, MSI + 0xD, 0x12, 1)
    assert rig.config_read(0, MSI + 0xC) == 0x12EF
    assert rig.config_read(0, MSI + 0xD, 1) == 0x12
    assert rig.config_read(0, MSI + 8) == 0


def test_ecam_and_empty_slots():
    rig = FunctionRig(EndpointShape(), EndpointShape(intx=False))
    assert rig.load(0, ECAM + (2 << 15)) == 0x0001_1209
    rig.store(0, ECAM + (1 << 15) + MSI + 4, 0x4444_4444)
    assert rig.config_read(0, MSI + 4) == 0x4444_4444
    rig.store(0, ECAM + (3 << 15), 0)
    assert rig.load(0, ECAM + (3 << 15)) == 0xFFFF_FFFF
    assert rig.load(0, ECAM + (1 << 15 | 1 << 12), 2) == 0xFFFF
    rig.store(0, MMIO + 0x8_0000, 0)
    assert rig.load(0, MMIO + 0x8_0000) == 0xFFFF_FFFF
    rig.config_write(0, COMMAND, 0, 2)
    assert rig.bar(0) == 0xFFFF_FFFF


# MSI ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("msi", ["32", "64"])
def test_message_is_what_the_registers_hold(msi):
    rig = msi_rig(msi)
    rig.raise_event(0)
    assert rig.sent() == 0  # not enabled: lost
    rig.flags()
    assert rig.sent() == 0
    rig.raise_event(0)
    assert rig.sent() == 0x1230
    rig.config_write(0, rig.data, 0x99, 1)
    rig.raise_event(0)
    assert rig.sent() == 0x1299


def test_torn_message():
    """Between the address and the data write a message carries the new one and the old one."""
    rig = msi_rig()
    rig.flags()
    rig.address(RAM + 0x100)
    rig.raise_event(0)
    rig.config_write(0, MSI + 8, 0x4567, 2)
    assert (rig.sent(), rig.sent(RAM + 0x100)) == (0, 0x1230)


def test_upper_address_word_matters():
    rig = msi_rig("64")
    rig.flags()
    rig.address(RAM, 1)
    rig.raise_event(0)
    assert rig.sent() == 0
    assert rig.counters == {"message: no target": 1}


@pytest.mark.parametrize(
    ("log2", "vector", "expected"),
    [(0, 0, 0x1235), (2, 0, 0x1234), (2, 3, 0x1237), (3, 6, 0x1236), (7, 7, 0x1237)],
)
def test_vector_replaces_low_bits(log2, vector, expected):
    rig = msi_rig(vectors=8)
    rig.config_write(0, rig.data, 0x1235, 2)
    rig.flags(log2=log2)
    rig.raise_event(0, vector)
    assert rig.sent() == expected


@pytest.mark.parametrize(("choice", "expected"), [("drop", 0), ("fold", 0x1231)])
def test_vector_beyond_the_enabled_count(choice, expected):
    rig = msi_rig(vectors=8, implementation=Implementation(surplus_vector=choice))
    rig.flags(log2=1)
    rig.raise_event(0, 5)
    assert rig.sent() == expected


def test_masked_event_waits_and_leaves_with_the_message_of_that_moment():
    rig = msi_rig(vectors=4, maskable=True)
    rig.flags(log2=2)
    rig.config_write(0, MSI + 0xC, 0b0010)
    rig.raise_event(0, 1)
    rig.raise_event(0, 1)
    assert rig.sent() == 0
    assert rig.config_read(0, MSI + 0x10) == 0b0010
    rig.address(RAM + 0x100)
    rig.config_write(0, MSI + 0xC, 0)
    assert (rig.sent(), rig.sent(RAM + 0x100)) == (0, 0x1231)
    assert rig.config_read(0, MSI + 0x10) == 0


def test_lowering_the_count_forgets_pending_vectors():
    rig = msi_rig(vectors=4, maskable=True)
    rig.flags(log2=2)
    rig.config_write(0, MSI + 0xC, 0b1111)
    for vector in (1, 2):
        rig.raise_event(0, vector)
    rig.flags(log2=1)
    assert rig.config_read(0, MSI + 0x10) == 0b0010


@pytest.mark.parametrize("maskable", [False, True])
def test_bus_mastering_off_loses_the_message(maskable):
    rig = msi_rig(maskable=maskable)
    rig.flags()
    rig.config_write(0, COMMAND, MEMORY, 2)
    rig.raise_event(0)
    rig.config_write(0, COMMAND, MEMORY | MASTER, 2)
    assert rig.sent() == 0
    assert rig.counters == {"message: bus mastering off": 1}


# MSI-X -------------------------------------------------------------------------------------------


@pytest.fixture
def msix():
    rig = FunctionRig(EndpointShape(msi="64", msix_vectors=64))
    for n in range(64):
        rig.entry(n, RAM + 4 * n, 0x1_0000 + n)
    return rig


def test_msix_message(msix):
    msix.config_write(0, MSIX + 2, 0x8000, 2)
    msix.raise_event(0, 33)
    assert msix.sent(RAM + 4 * 33) == 0x1_0021
    msix.raise_event(0, 64)  # no such entry
    assert msix.ram_read(RAM, 256) == bytes(256)
    assert msix.bar(0x04) == 2


def test_msix_disabled_records_nothing(msix):
    msix.raise_event(0, 5)
    msix.config_write(0, MSIX + 2, 0x8000, 2)
    assert msix.sent(RAM + 20) == 0


@pytest.mark.parametrize("function_mask", [False, True])
def test_msix_mask_holds(msix, function_mask):
    msix.config_write(0, MSIX + 2, 0x8000 | function_mask << 14, 2)
    if not function_mask:
        msix.entry(40, RAM, 0x77, masked=True)
    msix.raise_event(0, 40)
    assert (msix.bar(PBA), msix.bar(PBA + 4)) == (0, 1 << 8)
    assert msix.sent() == 0
    msix.entry(40, RAM, 0x88, masked=True)
    msix.bar(TABLE + 16 * 40 + 12, 0, size=1)
    msix.config_write(0, MSIX + 2, 0x8000, 2)
    assert msix.sent() == 0x88
    assert msix.bar(PBA + 4) == 0


def test_unmasked_msix_rewrite_tears(msix):
    msix.config_write(0, MSIX + 2, 0x8000, 2)
    msix.bar(TABLE, RAM + 0x200)
    msix.raise_event(0, 0)
    assert msix.sent(RAM + 0x200) == 0x1_0000


# Pin ---------------------------------------------------------------------------------------------


def wire(rig, intid):
    return intid in rig.state()["distributor"]["pending"]


def test_pin_follows_the_cause():
    rig = FunctionRig(EndpointShape(msi="32"))
    rig.raise_event(0)
    assert wire(rig, 36)
    assert rig.config_read(0, STATUS, 2) == 0x18
    rig.config_write(0, COMMAND, MASTER | MEMORY | INTX_DISABLE, 2)
    assert not wire(rig, 36)
    assert rig.config_read(0, STATUS, 2) == 0x18
    rig.config_write(0, COMMAND, MASTER | MEMORY, 2)
    rig.flags()
    assert not wire(rig, 36)  # messages silence the pin
    rig.flags(enable=0)
    assert wire(rig, 36)
    rig.raise_event(0)
    rig.bar(0x08, 1)  # one of two events served
    assert wire(rig, 36)
    rig.bar(0x08, rig.bar(0x04))
    assert not wire(rig, 36)
    assert rig.config_read(0, STATUS, 2) == 0x10


def test_pins_share_lines():
    shapes = [EndpointShape(msi="none")] * 5
    rig = FunctionRig(*shapes)
    for k, intid in enumerate((36, 37, 38, 35, 36)):
        rig.raise_event(k)
        assert wire(rig, intid)
    rig.bar(0x08, 1, k=0)
    assert wire(rig, 36)
    rig.bar(0x08, 1, k=4)
    assert not wire(rig, 36)


def test_pin_without_an_spi_goes_nowhere():
    rig = FunctionRig(EndpointShape(msi="none"), layout=PciLayout(intx_intids=(0, 0, 0, 0)))
    rig.raise_event(0)
    assert rig.config_read(0, STATUS, 2) == 0x08
    assert rig.state()["distributor"]["pending"] == []


# The device behind the BAR -----------------------------------------------------------------------


def test_device_registers():
    rig = msi_rig()
    assert rig.bar(0x00) == 0x5149_5249
    rig.flags()
    rig.bar(0x1C, 0)  # TRIGGER
    assert rig.sent() == 0x1230
    assert (rig.bar(0x04), rig.bar(0x0C)) == (1, 1)
    rig.bar(0x08, 0xAB, size=1)
    assert (rig.bar(0x08), rig.bar(0x0C)) == (0xAB, 1)
    rig.bar(0x04, 7)
    assert rig.bar(0x04) == 1
    assert rig.bar(0x20) == 0


def test_count_is_in_memory_before_the_message():
    rig = msi_rig()
    rig.flags()
    rig.bar(0x10, RAM + 0x203)
    rig.bar(0x14, 0)
    rig.bar(0x18, 1)
    assert rig.bar(0x10) == RAM + 0x200
    rig.address(RAM + 0x200)  # the later write wins
    rig.raise_event(0)
    assert rig.sent(RAM + 0x200) == 0x1230
    rig.address(RAM)
    rig.raise_event(0)
    assert rig.sent(RAM + 0x200) == 2
    rig.bar(0x14, 1)
    rig.raise_event(0)
    assert rig.counters == {"message: no target": 1}


# As another function ------------------------------------------------------------------------------


def test_pin_asks_only_after_an_event():
    rig = FunctionRig(EndpointShape(msi="none"))
    rig.bar(0x08, 5)  # events acknowledged that never were: a cause, but no interrupt
    assert (rig.bar(0x0C), wire(rig, 36)) == (1, False)
    rig.raise_event(0)
    assert wire(rig, 36)


def test_status_beside_messages_is_a_choice():
    for choice, expected in ((True, 0x18), (False, 0x10)):
        rig = msi_rig(implementation=Implementation(status_beside_messages=choice))
        rig.flags()
        rig.raise_event(0)
        assert rig.config_read(0, STATUS, 2) == expected


@pytest.mark.parametrize(("choice", "sent"), [("drop", 0), ("first", 0x70)])
def test_a_vector_that_no_entry_has(choice, sent):
    rig = FunctionRig(
        EndpointShape(msi="64", msi_vectors=8, msix_vectors=2),
        implementation=Implementation(surplus_entry=choice),
    )
    rig.entry(0, RAM, 0x70)
    rig.config_write(0, MSIX + 2, 0x8000, 2)
    for vector in (5, 40):
        rig.raise_event(0, vector)
        assert rig.sent() == sent


def test_unplugged():
    rig = msi_rig()
    rig.raise_event(0)
    assert wire(rig, 36)
    rig.unplug(0, False)  # it is here already
    assert wire(rig, 36)
    rig.unplug(0)
    rig.raise_event(0)
    assert not wire(rig, 36)
    assert rig.load(0, ECAM | 1 << 15) == rig.load(0, MMIO) == 0xFFFF_FFFF
    rig.unplug(0, False)
    assert rig.load(0, ECAM | 1 << 15) == 0x0001_1209
    assert rig.config_read(0, COMMAND, 2) == 0


def test_each_function_can_have_a_layout():
    layouts = (
        PciLayout(msix_offset=0x40, express_offset=0x80, subsystem=True, pin=2),
        PciLayout(device_id=0x77),
    )
    shapes = (EndpointShape(msi="none", msix_vectors=1), EndpointShape())
    rig = FunctionRig(*shapes, layout=layouts)
    assert (rig.config_read(0, 0x34, 1), rig.config_read(0, 0x40, 2)) == (0x40, 0x8011)
    assert rig.config_read(0, 0x80, 4) == 0x0002_0010
    rig.config_write(0, 0x88, 0, 2)
    assert rig.config_read(0, 0x88, 2) == 0
    assert (rig.config_read(0, 0x3D, 1), rig.config_read(1, 0x3D, 1)) == (2, 1)
    assert (rig.config_read(0, 0x2C, 4), rig.config_read(1, 0x2C, 4)) == (0x0001_1209, 0)
    assert rig.config_read(1, 0x02, 2) == 0x77
    rig.raise_event(0)
    assert wire(rig, 37), "INTB of device 1"
    with pytest.raises(ValueError, match=r"^There must be one PciLayout for each of 1, not 2$"):
        FunctionRig(EndpointShape(), layout=layouts)


def test_no_message_returns_into_the_bridge():
    rig = msi_rig("64")
    rig.flags()
    for address in (ECAM | 1 << 15 | 4, MMIO + 0x1C):
        rig.address(address, 0)
        rig.raise_event(0)
    assert rig.counters == {"message: no target": 2}
    rig.message(ECAM | 1 << 15 | COMMAND, 0, 0x55)  # another requester's write is an access
    assert rig.config_read(0, COMMAND, 2) == 0
