"""A function that writes messages it was not given: whose interrupts can it raise?"""

from collections.abc import Mapping
from dataclasses import dataclass

from firmware_model.chips.x86_entry import CALL_VECTOR
from firmware_model.core.records import Kind
from firmware_model.platforms.arm64 import IPIS
from firmware_model.platforms.rogue import ArmRogueSystem, X86RogueSystem, victim_lpis
from hdl.bus import Region
from hdl.config import APIC_WINDOW, DISTRIBUTOR
from hdl.registers.gits import TRANSLATION_FRAME
from hdl.tap import EventKind

from ..trial import Outcome, Plan
from ..verdict import broken, storm
from .base import Axis, Scenario, Strategy
from .machines import ARM, DIRECT_HIGH, X86, gic_frames

BOOT = 7_000
"""Clock at which the stimulus begins."""
LIMIT = 3_000
"""Clocks of a stimulus that does not come to rest; a usual one takes 300."""
SPI = 40
"""INTID of another device's wire."""
VICTIM_VECTORS = ((0, 0x41), (1, 0x42))
"""(CPU, vector) of other devices on the x86 machine."""
BEARABLE = 10

QUICK_ADDRESSES = (0x40, 0x44, 0x48, 0x1040, 0x204, 0x2_0040, 0xB_0200)
"""Doorbells, what stands beside them, and pending registers of a distributor and redistributor."""
QUICK_DATA = (*range(0x30), 0x41, 0x42, CALL_VECTOR, 0x100, *range(0x2000, 0x2008))

FRAME = 0x1_0000
LARGEST = 0x10_0000
FRAMES = range(0, LARGEST, FRAME)

GIC = DISTRIBUTOR.base
TRANSLATIONS = ARM.its_region.base + TRANSLATION_FRAME


@dataclass(frozen=True)
class Reach:
    """The regions that a write of the function gets to; the bridge stops it elsewhere.

    On x86 the window is open to every device unless interrupts are remapped. On Arm an IOMMU maps
    the page of the doorbell, and what else is in that page comes with it.
    """

    regions: tuple[Region, ...]

    def address(self, offset: int) -> int | None:
        """Where ``offset`` is, the regions being one behind the other; None: beyond them."""
        for region in self.regions:
            if offset < region.size:
                return region.base + offset
            offset -= region.size
        return None


REACHES: Mapping[str, Reach] = {
    "apic": Reach((APIC_WINDOW,)),
    "direct-lpi": Reach(DIRECT_HIGH.redistributors),
    "spi": Reach((DISTRIBUTOR,)),
    "its": Reach((Region("translation frame", TRANSLATIONS, FRAME),)),
    "its-open": Reach((Region("GIC", GIC, LARGEST),)),
}


class RogueMsi(Scenario):
    """One function writes one message; the other devices never interrupt, so that it was it."""

    name = "rogue-msi"
    summary = "a function writes an MSI that it was not given; whose interrupt does it raise?"
    source = "irqscope's own; the reason for interrupt remapping and for the ITS's DeviceID"
    config = ARM
    boot_clocks = BOOT
    axes = {
        "address": Axis(0x40, 0, LARGEST - 4, "offset of the write in what the function reaches"),
        "data": Axis(0x41, 0, 0xFFFF, "what is written"),
    }
    strategies = {
        "apic": Strategy(
            "local APICs without remapping: the message names CPU and vector", False, config=X86
        ),
        "direct-lpi": Strategy(
            "redistributor frames mapped for GICR_SETLPIR: it names CPU and LPI",
            False,
            config=DIRECT_HIGH,
        ),
        "spi": Strategy("distributor frame mapped for GICD_SETSPI_NSR: it names the SPI", False),
        "its": Strategy("translation frame mapped: the bridge says who it was", True),
        "its-open": Strategy("an ITS, but every frame of the GIC is within reach", False),
    }
    grids = {
        "quick": [{"address": QUICK_ADDRESSES, "data": QUICK_DATA}],
        "full": [
            # Doorbells and pending registers stand at the beginning of a frame.
            {
                "address": [
                    0x1040,
                    *(frame + word for frame in FRAMES for word in range(0, 0x300, 4)),
                ],
                "data": (0, 1, 2, SPI, 0x41, 0x42, CALL_VECTOR, 0x100, *range(0x2000, 0x2004)),
            },
        ],
    }

    def boot(self, strategy: str, at: Mapping[str, int]) -> X86RogueSystem | ArmRogueSystem:
        config = self.hardware(strategy)
        if config is X86:
            return X86RogueSystem(victims=VICTIM_VECTORS, cpus=config.cpus)
        return ArmRogueSystem(spi=SPI, frames=gic_frames(config), cpus=config.cpus)

    def stimulate(
        self, system: X86RogueSystem | ArmRogueSystem, strategy: str, at: Mapping[str, int]
    ) -> Plan:
        address = REACHES[strategy].address(at["address"])
        if address is not None:
            system.start_attack(address, at["data"])
        return Plan(system.machine, limit=BOOT + LIMIT)

    def judge(self, strategy: str, at: Mapping[str, int], outcome: Outcome) -> frozenset[str]:
        log = outcome.log
        earned = {
            "misdirected": foreign(strategy, outcome) > 0,
            "spurious": any(r.kind in (Kind.NO_IRQ_HANDLER, Kind.SPURIOUS_VECTOR) for r in log),
            "storm": storm(log, BEARABLE),
            "crash": broken(outcome),
        }
        return frozenset(name for name, true in earned.items() if true)

    def figures(
        self, strategy: str, at: Mapping[str, int], outcome: Outcome
    ) -> Mapping[str, float]:
        """``foreign``: interrupts of others that the message raised."""
        return {"foreign": foreign(strategy, outcome)}

    def contradictions(self, strategy: str, outcome: Outcome) -> list[str]:
        disturbed = sum(record.kind == Kind.DISTURBED for record in outcome.log)
        found = super().contradictions(strategy, outcome)
        if disturbed > foreign(strategy, outcome):
            found.append(
                f"{disturbed} handlers of other devices ran, for fewer of their interrupts"
            )
        return found

    def window(self, at: Mapping[str, int], outcome: Outcome) -> tuple[int, int]:
        return BOOT, outcome.cycles


def foreign(strategy: str, outcome: Outcome) -> int:
    """How often an interrupt of another device, or the kernel's own, became pending."""
    raised = [
        event
        for event in outcome.events
        if event.kind == EventKind.PENDING_SET and event.cycle >= BOOT
    ]
    if strategy == "apic":
        pairs = {*VICTIM_VECTORS, *((cpu, CALL_VECTOR) for cpu in range(X86.cpus))}
        return sum((event.unit, event.id) in pairs for event in raised)
    pairs = set(victim_lpis(ARM.cpus, its=strategy != "direct-lpi"))
    others = {*range(IPIS), SPI}
    return sum(event.id in others or (event.unit, event.id) in pairs for event in raised)
