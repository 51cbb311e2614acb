"""Configuration space of one function: the type-0 header, and the way to its capabilities.

Source: PCI Local Bus 3.0 chapter 6, as far as software (Linux' PCI core) can see it.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..registers import pci
from .interfaces import CONFIG_BITS, AccessSignature, Bar, RegistersSignature, lanes, merge

CAPABILITY_SLOT = 0x40
"""Each capability has 64 bytes to itself, so that a decoder needs two address bits."""


class ConfigSpace(wiring.Component):
    """Header registers, and a decoder for the capabilities behind them.

    Every one of the 4096 bytes can be read and written; what no register holds reads as zero and
    ignores writes. A write takes effect in the clock after the request is taken, lane by lane;
    the answer follows in that same clock.

    Writable: command (memory space, bus master, INTx disable), cache line size, BAR, interrupt
    line. Simplifications against the specification: no I/O space, no parity or SERR# enables and
    so no error bits in status, no expansion ROM, no power-management capability (the function is
    always in D0). Software finds each of these as optional or reads it as absent.

    Parameters
    ----------
    bar_bits : int
        32 or 64: the width of BAR 0.
    pin : int
        Interrupt pin register: 0 (none) to 4 (INTD).
    device_id : int
        Device id, 16 bits.
    capabilities : int
        How many capabilities there are; number ``i`` starts at ``0x40 * (i + 1)``.

    Members
    -------
    config : In(AccessSignature(12))
    capability : array of Out(RegistersSignature(4))
    interrupt_status : In(1)
        The function asks for INTx, whether or not that is disabled.
    master, intx_disable : Out(1)
        Bits of the command register.
    bar : Out(Bar)
    """

    def __init__(self, *, bar_bits: int, pin: int, device_id: int, capabilities: int):
        self._bar_bits = bar_bits
        self._pin = pin
        self._device_id = device_id
        self._capabilities = capabilities
        super().__init__(
            {
                "config": In(AccessSignature(CONFIG_BITS)),
                "capability": Out(RegistersSignature(4)).array(capabilities),
                "interrupt_status": In(1),
                "master": Out(1),
                "intx_disable": Out(1),
                "bar": Out(Bar),
            }
        )

    @staticmethod
    def capability_base(number: int) -> int:
        """Where capability ``number`` starts; 0 behind the last, as in a ``next`` pointer."""
        return CAPABILITY_SLOT * (number + 1)

    def elaborate(self, platform):
        m = Module()
        request, response = self.config.request, self.config.response
        owed = Signal()
        taken = request.valid & request.ready
        write = Signal(4)
        value = Signal(32)
        m.d.comb += [request.ready.eq(~owed), response.valid.eq(owed)]
        with m.If(taken):
            m.d.sync += [owed.eq(1), response.payload.eq(Mux(request.p.write, 0, value))]
            m.d.comb += write.eq(Mux(request.p.write, request.p.select, 0))
        with m.If(response.valid & response.ready):
            m.d.sync += owed.eq(0)

        address, data = request.p.address, request.p.data
        self._header(m, address, write, data, value)
        for number, capability in enumerate(self.capability):
            m.d.comb += [capability.index.eq(address[2:6]), capability.data.eq(data)]
            with m.If(address[6:] == number + 1):
                m.d.comb += [capability.select.eq(write), value.eq(capability.value)]
        return m

    def _header(self, m, address, write, data, value):
        memory_enable = Signal()
        cache_line = Signal(8)
        line = Signal(8)
        base_bits = self._bar_bits - (pci.BAR_SIZE.bit_length() - 1)
        base = Signal(base_bits)
        wide = self._bar_bits == 64
        bar = Cat(Const(pci.BAR_TYPE_64 if wide else 0, pci.BAR_SIZE.bit_length() - 1), base)

        command = Cat(Const(0, 1), memory_enable, self.master, Const(0, 7), self.intx_disable)
        status = Cat(Const(0, 3), self.interrupt_status, Const(1, 1))
        m.d.comb += [
            self.bar.enable.eq(memory_enable),
            self.bar.base[pci.BAR_SIZE.bit_length() - 1 :].eq(base),
        ]

        with m.Switch(address[2:]):
            with m.Case(pci.Header.VENDOR >> 2):
                m.d.comb += value.eq(self._device_id << 16 | pci.VENDOR_ID)
            with m.Case(pci.Header.COMMAND >> 2):
                m.d.comb += value.eq(Cat(command, Const(0, 16 - len(command)), status))
                with m.If(write[0]):
                    m.d.sync += [memory_enable.eq(data[1]), self.master.eq(data[2])]
                if self._pin:
                    with m.If(write[1]):
                        m.d.sync += self.intx_disable.eq(data[10])
            with m.Case(pci.Header.REVISION >> 2):
                m.d.comb += value.eq(pci.CLASS_CODE << 8 | pci.REVISION)
            with m.Case(pci.Header.CACHE_LINE >> 2):
                m.d.comb += value.eq(cache_line)
                with m.If(write[0]):
                    m.d.sync += cache_line.eq(data[:8])
            with m.Case(pci.Header.BAR0 >> 2):
                m.d.comb += value.eq(bar[:32])
                new = merge(bar[:32], data, write)
                m.d.sync += base[: 32 - (len(bar) - base_bits)].eq(new[len(bar) - base_bits :])
            if wide:
                with m.Case(pci.Header.BAR1 >> 2):
                    m.d.comb += value.eq(bar[32:])
                    m.d.sync += base[-32:].eq(merge(bar[32:], data, write))
            with m.Case(pci.Header.SUBSYSTEM >> 2):
                m.d.comb += value.eq(self._device_id << 16 | pci.VENDOR_ID)
            with m.Case(pci.Header.CAPABILITIES >> 2):
                m.d.comb += value.eq(self.capability_base(0) if self._capabilities else 0)
            with m.Case(pci.Header.INTERRUPT_LINE >> 2):
                m.d.comb += value.eq(Cat(line, Const(self._pin, 8)))
                with m.If(write[0]):
                    m.d.sync += line.eq(data[:8])


class ExpressCapability(wiring.Component):
    """PCI Express capability of an endpoint: every function behind a PCIe host has one.

    Version 2, 128-byte payloads, link 2.5 GT/s x1. Device control is writable and has no effect,
    since this function sends single words; link control and everything behind it reads as the
    constants given here.

    Parameters
    ----------
    next_capability : int
        Pointer to the next capability, 0 for none.

    Members
    -------
    registers : In(RegistersSignature(4))
    """

    LENGTH = 0x3C
    WRITABLE_CONTROL = 0x78FF  # error enables, relaxed ordering, payload, no snoop, read size
    RESET_CONTROL = 0x2810  # relaxed ordering, no snoop, 512-byte reads

    def __init__(self, next_capability: int):
        self._next = next_capability
        super().__init__({"registers": In(RegistersSignature(4))})

    def elaborate(self, platform):
        m = Module()
        index, value = self.registers.index, self.registers.value
        control = Signal(16, init=self.RESET_CONTROL)
        writable = lanes(self.registers.select)[:16] & self.WRITABLE_CONTROL
        with m.Switch(index):
            with m.Case(0):
                version = 2
                m.d.comb += value.eq(version << 16 | self._next << 8 | pci.CapabilityId.EXPRESS)
            with m.Case(pci.EXPRESS_DEVICE_CAPABILITIES >> 2):
                role_based_errors = 1 << 15
                m.d.comb += value.eq(role_based_errors)
            with m.Case(pci.EXPRESS_DEVICE_CONTROL >> 2):
                m.d.comb += value.eq(control)
                m.d.sync += control.eq((control & ~writable) | (self.registers.data & writable))
            with m.Case(pci.EXPRESS_LINK_CAPABILITIES >> 2):
                m.d.comb += value.eq(1 << 4 | 1)
            with m.Case(pci.EXPRESS_LINK_CONTROL >> 2):
                m.d.comb += value.eq((1 << 4 | 1) << 16)
        return m
