"""Distributor: SPIs and where they go (section 2)."""

from .bank import FIRST, LAST, Candidate, InterruptBank, is_priority
from .bits import HALF, WORD, half, merge_half, span
from .implementation import FIRST_ID, Implementation
from .shape import Shape

FIRST_SPI = 32

PART = 0x92


class Register:
    """Offsets of what is not one of the bank's arrays."""

    CTLR = 0x0000
    TYPER = 0x0004
    IIDR = 0x0008
    SETSPI_NSR = 0x0040
    CLRSPI_NSR = 0x0048
    IROUTER = 0x6000


CTLR_GROUPS = span(1, 0)
CTLR_ALWAYS = span(6, 4)
"""DS and ARE: one security state, affinity routing; both cannot be changed."""

ROUTE_MASK = span((39, 32), (23, 0))
"""Aff3 and Aff2.1.0. There is no 1-of-N, so IRM reads zero."""


class Distributor:
    """The GICD frame: 64 KiB.

    RWP always reads 0: what it would wait for has already happened.
    """

    def __init__(self, shape: Shape, choices: Implementation):
        self._choices = choices
        self.spis = InterruptBank(FIRST_SPI, shape.spis, choices)
        self.enabled_groups = 0
        self.routes = dict.fromkeys(range(FIRST_SPI, FIRST_SPI + shape.spis), 0)
        self._number_of = {affinity(cpu): cpu for cpu in range(shape.cpus)}
        self._routed_to = [0] * shape.cpus
        self._routed_to[0] = self.spis.implemented
        self._typer = _typer(shape, choices)

    @property
    def group1_enabled(self) -> bool:
        return bool(self.enabled_groups & 2)

    def candidate(self, cpu: int) -> "Candidate | None":
        """The best SPI for ``cpu``, whatever that CPU thinks of its priority."""
        return self.spis.candidate(self._routed_to[cpu])

    def narrow(self, offset: int) -> bool:
        """Whether the register takes 8- or 16-bit writes (section 1)."""
        return is_priority(offset) or offset in (Register.SETSPI_NSR, Register.CLRSPI_NSR)

    def read(self, offset: int) -> int:
        if FIRST <= offset <= LAST:
            return self.spis.read(offset)
        match offset:
            case Register.CTLR:
                return CTLR_ALWAYS | self.enabled_groups
            case Register.TYPER:
                return self._typer
            case Register.IIDR:
                return self._choices.gicd_iidr
        if offset >= FIRST_ID:
            return self._choices.identification(offset, PART)
        return half(self.routes.get((offset - Register.IROUTER) // 8, 0), offset)

    def write(self, offset: int, value: int, lanes: int) -> None:
        if FIRST <= offset <= LAST:
            self.spis.write(offset, value, lanes)
        elif offset == Register.CTLR:
            groups = lanes & CTLR_GROUPS
            self.enabled_groups = self.enabled_groups & ~groups | value & groups
        elif offset in (Register.SETSPI_NSR, Register.CLRSPI_NSR):
            self._message(offset, value & lanes, lanes)
        else:
            self._route((offset - Register.IROUTER) // 8, offset, value, lanes)

    def _message(self, offset: int, value: int, lanes: int) -> None:
        if lanes not in (HALF, WORD):
            return
        intid = value & (1 << self._choices.setspi_bits) - 1
        if offset == Register.SETSPI_NSR:
            self.spis.set_pending(intid)
        else:
            self.spis.clear_pending(intid)

    def _route(self, intid: int, offset: int, value: int, lanes: int) -> None:
        """A pending SPI is a candidate for its new CPU at once; an active one stays active."""
        if intid not in self.routes:
            return
        mask = ROUTE_MASK if self._choices.affinity_3 else ROUTE_MASK & WORD
        bit = 1 << intid
        old = self._number_of.get(self.routes[intid])
        if old is not None:
            self._routed_to[old] &= ~bit
        self.routes[intid] = route = merge_half(self.routes[intid], offset, value, lanes) & mask
        new = self._number_of.get(route)
        if new is not None:
            self._routed_to[new] |= bit

    def state(self) -> dict:
        routes = {intid: route for intid, route in self.routes.items() if route}
        return {"groups": self.enabled_groups, **self.spis.state(), "route": routes}


def affinity(cpu: int) -> int:
    """Aff3.2.1.0 of a CPU as IROUTER and SGI1R name it: sixteen CPUs to a cluster.

    Aff3 stands in [39:32], the others in [23:0].
    """
    return cpu & 0xF | cpu >> 4 << 8


def _typer(shape: Shape, choices: Implementation) -> int:
    lines = (FIRST_SPI + shape.spis + 31) // 32 - 1
    lpi_count = 0
    if choices.report_lpi_count and shape.lpis >= 2 and not shape.lpis & shape.lpis - 1:
        lpi_count = shape.lpis.bit_length() - 2
    return (
        lines
        | lpi_count << 11
        | 1 << 16  # MBIS
        | (shape.lpis > 0) << 17
        | choices.interrupt_id_bits - 1 << 19
        | choices.affinity_3 << 24
        | 1 << 25  # No1N
    )
