"""Ports of a design by name, down to the fields of structs."""

import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from hdl.soc import Soc, SocConfig
from sim.ports import Field, port_map, top_ports


class Colour(enum.Enum, shape=3):
    RED = 0
    BLUE = 5


class Inner(data.Struct):
    flag: 1
    colour: Colour


class Word(data.Struct):
    narrow: 5
    inner: Inner
    wide: 64
    pair: data.ArrayLayout(signed(7), 2)


class Channel(wiring.Signature):
    def __init__(self):
        super().__init__({"word": Out(Word), "back": In(2)})


class Example(wiring.Component):
    single: In(1)
    colour: Out(Colour)
    number: Out(signed(9))
    channel: Out(Channel()).array(2)

    def elaborate(self, platform):
        return Module()


@pytest.fixture
def ports():
    return port_map(Example())


def test_directions_and_widths(ports):
    width = 5 + 4 + 64 + 14
    assert ports.inputs == {"single": 1, "channel_0_back": 2, "channel_1_back": 2}
    assert ports.outputs == {
        "colour": 3,
        "number": 9,
        "channel_0_word": width,
        "channel_1_word": width,
    }
    assert ports.widths == ports.inputs | ports.outputs


def test_fields_of_structs_enums_and_arrays(ports):
    prefix = "channel_1_word"
    fields = [field for field in ports.fields.values() if field.port == prefix]
    assert fields == [
        Field(f"{prefix}.narrow", prefix, 0, 5),
        Field(f"{prefix}.inner.flag", prefix, 5, 1),
        Field(f"{prefix}.inner.colour", prefix, 6, 3),
        Field(f"{prefix}.wide", prefix, 9, 64),
        Field(f"{prefix}.pair.0", prefix, 73, 7),
        Field(f"{prefix}.pair.1", prefix, 80, 7),
    ]


def test_a_plain_port_is_one_field_of_its_name(ports):
    assert ports["single"] == Field("single", "single", 0, 1)
    assert ports["colour"] == Field("colour", "colour", 0, 3)
    assert ports["number"] == Field("number", "number", 0, 9)


def test_fields_cover_every_bit_of_every_port_once(soc):
    """Of the real machine as well as of the example."""
    for ports in (port_map(Example()), port_map(Soc(SocConfig(cpus=1))), soc.ports):
        covered = dict.fromkeys(ports.widths, 0)
        for field in ports.fields.values():
            bits = ((1 << field.width) - 1) << field.lsb
            assert not covered[field.port] & bits, f"{field.name} overlaps another field"
            covered[field.port] |= bits
        assert covered == {port: (1 << width) - 1 for port, width in ports.widths.items()}


def test_names_and_order_are_those_amaranth_gets(ports):
    assert list(ports.widths) == [
        name
        for side in (wiring.In, wiring.Out)
        for name, (_, member) in top_ports(Example()).items()
        if member.flow == side
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", r"'nothing' is not a field of this design \(no such port\)"),
        (
            "channel_0_word",
            r"'channel_0_word' is not a field of this design "
            r"\(channel_0_word\.narrow, channel_0_word\.inner\.flag, .*channel_0_word\.pair\.1\)",
        ),
        ("single.x", r"'single\.x' is not a field of this design \(no such port\)"),
    ],
)
def test_unknown_names(ports, name, message):
    with pytest.raises(KeyError, match=message):
        ports[name]


def test_a_stored_map_is_the_map_of_the_component(soc):
    assert soc.ports == port_map(Soc(soc.config))
    assert soc.channels == Soc(soc.config).channels
