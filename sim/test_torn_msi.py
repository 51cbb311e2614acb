"""What each telling strategy does on the wires when an event hits the move, net for net."""

import pytest

NETS = [
    "tap.config.valid",
    "tap.config.address",
    "tap.config.data",
    "tap.posted.valid",
    "tap.posted.address",
    "tap.posted.data",
    "tap.apic0.valid",
    "tap.apic0.id",
    "tap.apic1.valid",
    "tap.apic1.id",
    "cpu_0_intr",
    "cpu_1_intr",
    "probe_cpu_0.context",
    "probe_cpu_1.context",
]

TRIALS = {
    "naive-torn": ("naive", {"inject": 60}, {"lost", "misdirected"}),
    "naive-unharmed": ("naive", {"inject": 90}, set()),
    "two-step-between": ("two-step", {"inject": 85}, set()),
    "two-step-unchecked-between": ("two-step-unchecked", {"inject": 85}, {"lost"}),
    "disable-msi-off": ("disable-msi", {"inject": 60}, {"lost"}),
    "mask-pending": ("mask", {"inject": 70}, set()),
    "linux-6.1-torn": ("linux-6.1-recorded", {"inject": 60}, {"lost", "misdirected"}),
    "linux-5.10-between": ("linux-5.10-recorded", {"inject": 85}, set()),
    "msix-unmasked-torn": ("msix-unmasked", {"inject": 42}, {"lost", "misdirected"}),
}


@pytest.mark.parametrize("name", TRIALS)
def test_an_event_hits_the_move(golden_trial, name):
    strategy, at, verdicts = TRIALS[name]
    first = 700 + at["inject"] - 30
    outcome, earned = golden_trial(
        f"torn-msi-{name}", "torn-msi", strategy, at, NETS, first=first, last=first + 120
    )
    assert outcome.quiet
    assert earned == verdicts
