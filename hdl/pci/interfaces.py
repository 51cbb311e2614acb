"""What the parts of an endpoint, and an endpoint and its host, say to each other.

A function (:class:`hdl.pci.endpoint.Endpoint`) is seen through ports that name no system bus, as
a PCI Express core would see it: two *access* ports (configuration space, BAR), one stream of
*posted writes*, one INTx level.
"""

from amaranth.hdl import Cat
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

VECTOR_BITS = 6
CONFIG_BITS = 12
"""4 KiB of configuration space."""


def access_layout(address_bits: int) -> data.StructLayout:
    """One access: byte ``address`` with its two low bits zero, and the byte lanes that count."""
    return data.StructLayout({"address": address_bits, "write": 1, "data": 32, "select": 4})


class AccessSignature(wiring.Signature):
    """Reads and writes of one 32-bit word, seen from the one who asks.

    One request at a time: it is taken once, and exactly one ``response`` follows, a clock later
    at the earliest (a write is answered with zero). A write takes effect in the clock after the
    one in which it was taken, unless the target says otherwise; a read has the values of the
    clock in which it was taken. ``response`` holds until it is taken.
    """

    def __init__(self, address_bits: int):
        super().__init__(
            {
                "request": Out(stream.Signature(access_layout(address_bits))),
                "response": In(stream.Signature(32)),
            }
        )


class RegistersSignature(wiring.Signature):
    """A group of up to ``2**index_bits`` registers, seen from the decoder before it.

    ``value`` is register ``index`` in the same clock. ``select`` names the byte lanes of ``data``
    that are written to it in this clock; no lane means no write.
    """

    def __init__(self, index_bits: int):
        super().__init__(
            {
                "index": Out(index_bits),
                "select": Out(4),
                "data": Out(32),
                "value": In(32),
            }
        )


def lanes(select):
    """The bit mask of the byte lanes in ``select``."""
    return Cat(bit.replicate(8) for bit in select)


def merge(old, new, select):
    """``old`` with the byte lanes in ``select`` replaced by those of ``new``."""
    mask = lanes(select)
    return (old & ~mask) | (new & mask)


class PostedWrite(data.Struct):
    """A 32-bit memory write towards the host. ``address`` is a multiple of four.

    ``interrupt`` tells a message from data, for observers only: on the wire both are writes.
    """

    address: 64
    data: 32
    interrupt: 1


class Message(data.Struct):
    """Address and data of an interrupt message."""

    address: 64
    data: 32


class MessageRequest(data.Struct):
    """A question to the keeper of messages (MSI or MSI-X registers).

    * neither flag: an event on ``vector`` wants its message sent. If the vector is masked and has
      a pending bit, that is set; if it is not masked, the pending bit is cleared.
    * ``resume``: the same, but only if the vector is pending.
    * ``peek``: would it be sent now, and which message? Changes nothing.
    """

    vector: VECTOR_BITS
    resume: 1
    peek: 1


class MessageReply(data.Struct):
    """``send``: ``message`` is to be sent now. It is the registers' content at one clock."""

    send: 1
    message: Message


class Resumable(data.Struct):
    """A vector that looks pending and not masked. Only a request with ``resume`` decides."""

    valid: 1
    vector: VECTOR_BITS


class MessageKeeperSignature(wiring.Signature):
    """Seen from the one who sends messages.

    ``reply`` is valid for one clock, once per request taken; the next request may follow then.
    """

    def __init__(self):
        super().__init__(
            {
                "request": Out(stream.Signature(MessageRequest)),
                "reply_valid": In(1),
                "reply": In(MessageReply),
                "resumable": In(Resumable),
            }
        )


class Bar(data.Struct):
    """Where a function's BAR lies, if it answers there at all (memory space enabled)."""

    enable: 1
    base: 64


class StimulusSignature(wiring.Signature):
    """What a test bench does to one function; seen from the bench.

    ``event``: strobe, the device has something to say on ``vector``. ``unplug``: level, the
    function is gone (and comes back in its reset state).
    """

    def __init__(self):
        super().__init__({"event": Out(1), "vector": Out(VECTOR_BITS), "unplug": Out(1)})


class QuirkSignature(wiring.Signature):
    """How one device behaves where devices differ; levels, seen from the bench.

    * ``latch_at_event``: the message is fixed when the event happens, not when it is sent, unless
      its vector is masked then. One that is masked when it is to be sent becomes pending and
      sends the message of its unmasking.
    * ``moderation``: clocks between the event and its message.
    * ``drop_when_disabled``: an event while MSI and MSI-X are off leads to no INTx either.
    * ``hold_when_no_master``: while bus mastering is off, an interrupt (and the data before it)
      waits; otherwise it is dropped.
    """

    def __init__(self):
        super().__init__(
            {
                "latch_at_event": Out(1),
                "moderation": Out(12),
                "drop_when_disabled": Out(1),
                "hold_when_no_master": Out(1),
            }
        )


class FabricSignature(wiring.Signature):
    """Timing and ordering between functions and the system; levels, seen from the bench.

    * ``posted_latency``: clocks from a posted write's leaving its function to the bus.
    * ``completion_latency``: clocks added to the answer of a configuration access or a read.
    * ``completions_pass_posted``: a read's answer may overtake the posted writes and INTx changes
      that left the same function before it. PCI forbids it: at 0 the answer waits for them.
    """

    def __init__(self):
        super().__init__(
            {
                "posted_latency": Out(12),
                "completion_latency": Out(12),
                "completions_pass_posted": Out(1),
            }
        )
