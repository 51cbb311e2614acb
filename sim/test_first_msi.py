"""One MSI, net for net: the waveform that everything else starts from."""

NETS = [
    "tap.config.valid",
    "tap.endpoint0_event.valid",
    "tap.posted.valid",
    "tap.posted.address",
    "tap.posted.data",
    "tap.apic_bus.valid",
    "tap.apic1.valid",
    "tap.apic1.kind",
    "cpu_0_intr",
    "cpu_1_intr",
    "cpu_1_port_request_valid",
    "cpu_1_port_response_valid",
    "probe_cpu_1.context",
    "probe_cpu_1.irqs_off",
]


def test_the_way_of_one_message(golden_trial):
    outcome, verdicts = golden_trial(
        "first-msi", "first-msi", "plain", {"inject": 40}, NETS, first=430, last=500
    )
    assert outcome.quiet
    assert not verdicts
