"""MSI: one message for a function, in registers that change one configuration write at a time.

Nothing makes the address and the data of a message change together. A message that is sent
between two of the writes carries the new half of one and the old half of the other: the torn
message that this project is about. Source: PCI Local Bus 3.0 section 6.8.1.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..registers import pci
from .interfaces import MessageKeeperSignature, RegistersSignature, lanes, merge


class MsiCapability(wiring.Component):
    """MSI capability registers, pending bits, and the answers to "what is to be sent?".

    * A register write takes effect in the clock after its access, lane by lane. A request sees
      the registers of the clock in which it is taken: a write in that clock comes too late for
      it. Its reply follows in the next clock, and its message holds until the next request.
      Requests are always taken.
    * Message of vector ``n``: the low log2(enabled) bits of the data register are replaced by
      ``n``, the upper 16 bits are zero. A function that has more vectors than software enabled
      folds them: ``n`` modulo the enabled number.
    * An enabled number above the capable one is taken as the capable one.
    * Masked: the pending bit is set, and the vector is ``resumable`` once unmasked. Lowering the
      enabled number drops the pending bits of the vectors that disappear, a clock after the
      write. Without per-vector masking there are no pending bits.
    * While disabled, no request sends or records anything; pending bits stay.

    Parameters
    ----------
    wide : bool
        64-bit message addresses.
    maskable : bool
        Mask and pending registers.
    vectors : int
        1, 2, 4, ... 32.
    next_capability : int

    Members
    -------
    registers : In(RegistersSignature(4))
    enable : Out(1)
    messages : In(MessageKeeperSignature())
    """

    def __init__(self, *, wide: bool, maskable: bool, vectors: int, next_capability: int):
        self._wide = wide
        self._maskable = maskable
        self._vectors = vectors
        self._next = next_capability
        super().__init__(
            {
                "registers": In(RegistersSignature(4)),
                "enable": Out(1),
                "messages": In(MessageKeeperSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        capable = self._vectors.bit_length() - 1
        address = Signal(64)
        data = Signal(16)
        enabled = Signal(range(capable + 1))
        mask = Signal(self._vectors)
        pending = Signal(self._vectors)

        self._registers(m, address, data, enabled, mask, pending)
        self._answers(m, address, data, enabled, mask, pending)
        return m

    def _registers(self, m, address, data, enabled, mask, pending):
        capable = self._vectors.bit_length() - 1
        registers = self.registers
        select, new, value = registers.select, registers.data, registers.value
        data_index = pci.msi_data(self._wide) >> 2
        with m.Switch(registers.index):
            with m.Case(0):
                flags = Cat(
                    self.enable,
                    Const(capable, 3),
                    enabled,
                    Const(0, 3 - len(enabled)),
                    Const(self._wide, 1),
                    Const(self._maskable, 1),
                )
                header = Const(self._next << 8 | pci.CapabilityId.MSI, 16)
                m.d.comb += value.eq(Cat(header, flags))
                with m.If(select[pci.MSI_FLAGS]):
                    asked = new[20:23]
                    m.d.sync += [
                        self.enable.eq(new[16]),
                        enabled.eq(Mux(asked > capable, capable, asked)),
                    ]
            with m.Case(pci.MSI_ADDRESS_LO >> 2):
                m.d.comb += value.eq(address[:32])
                m.d.sync += address[2:32].eq(merge(address[:32], new, select)[2:])
            if self._wide:
                with m.Case(pci.MSI_ADDRESS_HI >> 2):
                    m.d.comb += value.eq(address[32:])
                    m.d.sync += address[32:].eq(merge(address[32:], new, select))
            with m.Case(data_index):
                m.d.comb += value.eq(data)
                m.d.sync += data.eq(merge(Cat(data, Const(0, 16)), new, select))
            if self._maskable:
                with m.Case(pci.msi_mask(self._wide) >> 2):
                    m.d.comb += value.eq(mask)
                    written = lanes(select)[: self._vectors]
                    m.d.sync += mask.eq((mask & ~written) | (new & written))
                with m.Case(pci.msi_pending(self._wide) >> 2):
                    m.d.comb += value.eq(pending)

    def _answers(self, m, address, data, enabled, mask, pending):
        request, reply = self.messages.request, self.messages.reply
        asked = request.p
        # Vector i can be used when i < 2**enabled: when `enabled` is at least i's bit length.
        in_use = Cat(enabled >= i.bit_length() for i in range(self._vectors))
        low_bits = Cat(enabled > i for i in range(self._vectors.bit_length() - 1))
        replaced = len(low_bits)
        vector = asked.vector[:replaced] & low_bits
        bit = Signal(self._vectors)
        masked = (mask & bit).any()
        wanted = self.enable & (~asked.resume | (pending & bit).any())
        m.d.comb += [request.ready.eq(1), bit.eq(1 << vector)]

        m.d.sync += self.messages.reply_valid.eq(request.valid)
        with m.If(request.valid):
            m.d.sync += [
                reply.send.eq(wanted & ~masked),
                reply.message.address.eq(address),
                reply.message.data.eq(Cat((data[:replaced] & ~low_bits) | vector, data[replaced:])),
            ]

        if self._maskable:
            after = Signal(self._vectors)
            m.d.comb += after.eq(pending)
            with m.If(request.valid & ~asked.peek & wanted):
                m.d.comb += after.eq(Mux(masked, pending | bit, pending & ~bit))
            m.d.sync += pending.eq(after & in_use)

            ready = pending & ~mask & in_use
            m.d.comb += self.messages.resumable.valid.eq(self.enable & ready.any())
            for number in reversed(range(self._vectors)):
                with m.If(ready[number]):
                    m.d.comb += self.messages.resumable.vector.eq(number)
