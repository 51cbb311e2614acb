"""x86 message target: a local APIC per CPU, and the bus that brings messages to them."""
