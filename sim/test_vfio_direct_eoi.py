"""One interrupt of a guest, net for net: masked and sampled again, or ended by the guest alone."""

from hdl.tap import EventKind
from sim.scenarios.vfio_direct_eoi import FIRST, GUEST_DEVICE, INTID, OTHER_DEVICE, START

EVENT = START + FIRST
NETS = [
    "tap.endpoint0_event.valid",
    "pci.endpoint0.intx",
    "tap.config.valid",
    "tap.config.data",
    "cpu_0_irq",
    "tap.gic_cpu0.valid",
    "tap.gic_cpu0.kind",
    "tap.gic_cpu0.id",
    "tap.gic_deactivate0.valid",
    "cpu_1_irq",
    "cpu_1_virq",
    "tap.gic_guest1.valid",
    "tap.gic_guest1.kind",
    "tap.gic_deactivate1.valid",
    "probe_cpu_0.context",
    "probe_cpu_1.context",
    "probe_cpu_1.irq",
    "probe_cpu_1.state",
]
CO_DEVICE = ["tap.endpoint1_event.valid", "pci.endpoint1.intx"]


def deactivations(outcome):
    """(clocks from the first event, CPU) of every end of the line's interrupt."""
    return [
        (event.cycle - EVENT, event.unit)
        for event in outcome.events
        if event.kind == EventKind.DEACTIVATE and event.id == INTID
    ]


def test_masked_at_the_device_and_sampled_again(golden_trial):
    """The host ends the interrupt at once; the guest's end takes it out of the guest once more."""
    outcome, verdicts = golden_trial(
        "vfio-disintx", "vfio-direct-eoi", "disintx", {}, NETS, first=EVENT - 5, last=EVENT + 320
    )
    assert not verdicts
    (clock, cpu), *_ = deactivations(outcome)
    assert (cpu, clock < 100) == (0, True)


def test_the_other_device_waits_for_the_guest(golden_trial):
    """The patch: nobody masks, the guest's end ends it, and the line is blocked until then."""
    at = {"guest_delay": 120, "co_inject": 150}
    outcome, _ = golden_trial(
        "vfio-direct-eoi-shared",
        "vfio-direct-eoi",
        "direct-eoi-shared",
        at,
        NETS + CO_DEVICE,
        first=EVENT - 5,
        last=EVENT + 360,
    )
    ended, cpu = deactivations(outcome)[0]
    taken = [
        event.cycle - EVENT
        for event in outcome.events
        if event.kind == EventKind.ACKNOWLEDGE and event.id == INTID
    ]
    assert cpu == 1, "by the guest's own hand"
    assert taken[0] < 150 < ended < taken[1] < ended + 30
    raised = {event.unit for event in outcome.events if event.kind == EventKind.DEVICE_EVENT}
    assert raised == {GUEST_DEVICE, OTHER_DEVICE}
