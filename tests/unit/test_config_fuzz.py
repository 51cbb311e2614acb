"""Configuration space against a plain model: any access to any offset, in any lanes."""

import random

import pytest

from hdl.pci.endpoint import EndpointConfig
from hdl.registers import pci

from .pci_bench import ALL_ONES, FunctionBench, transact

CONFIGURATIONS = {
    "plain": EndpointConfig(),
    "32-bit-maskable": EndpointConfig(msi="32", maskable=True, msi_vectors=8, pin="C"),
    "everything": EndpointConfig(
        msi="64", maskable=True, msi_vectors=32, msix_vectors=64, bar_bits=64, device_id=0xBEEF
    ),
    "intx-only": EndpointConfig(msi="none", pin="D"),
    "no-intx": EndpointConfig(msi="none", msix_vectors=5, intx=False),
}


class Model:
    """Configuration space as words with a mask of writable bits each, from the specification."""

    def __init__(self, config):
        self.values, self.writable = {}, {}
        pin = "ABCD".index(config.pin) + 1 if config.intx else 0
        chain = [
            *(["msi"] if config.msi != "none" else []),
            *(["msix"] if config.msix_vectors else []),
            "express",
        ]
        self.word(0x00, config.device_id << 16 | 0x1209)
        self.word(0x04, 0x0010 << 16, 0x0406 if config.intx else 0x0006)
        self.word(0x08, 0xFF_0000_01)
        self.word(0x0C, 0, 0xFF)
        self.word(0x10, 4 if config.bar_bits == 64 else 0, ALL_ONES & -8192)
        if config.bar_bits == 64:
            self.word(0x14, 0, ALL_ONES)
        self.word(0x2C, config.device_id << 16 | 0x1209)
        self.word(0x34, 0x40)
        self.word(0x3C, pin << 8, 0xFF)
        for number, name in enumerate(chain):
            following = 0x40 * (number + 2) if number + 1 < len(chain) else 0
            getattr(self, name)(0x40 * (number + 1), following << 8, config)
        self.clamp = None
        if config.msi != "none":
            self.clamp = config.msi_vectors.bit_length() - 1

    def word(self, offset, value, writable=0):
        self.values[offset], self.writable[offset] = value, writable

    def msi(self, base, following, config):
        wide = config.msi == "64"
        capable = config.msi_vectors.bit_length() - 1
        flags = capable << 1 | wide << 7 | config.maskable << 8
        self.word(base, flags << 16 | following | 0x05, 0x0071_0000)
        self.word(base + 4, 0, 0xFFFF_FFFC)
        if wide:
            self.word(base + 8, 0, ALL_ONES)
        self.word(base + (12 if wide else 8), 0, 0xFFFF)
        if config.maskable:
            self.word(base + (16 if wide else 12), 0, (1 << config.msi_vectors) - 1)

    def msix(self, base, following, config):
        self.word(base, config.msix_vectors - 1 << 16 | following | 0x11, 0xC000_0000)
        self.word(base + 4, 0x1000)
        self.word(base + 8, 0x1800)

    def express(self, base, following, config):
        self.word(base, 0x0002 << 16 | following | 0x10)
        self.word(base + 4, 0x8000)
        self.word(base + 8, 0x2810, 0x78FF)
        self.word(base + 12, 0x11)
        self.word(base + 16, 0x11 << 16)

    def read(self, offset):
        return self.values.get(offset, 0)

    def write(self, offset, data, select):
        lanes = sum(0xFF << 8 * i for i in range(4) if select >> i & 1)
        mask = self.writable.get(offset, 0) & lanes
        value = self.read(offset) & ~mask | data & mask
        if offset == 0x40 and self.clamp is not None:
            enabled = min(value >> 20 & 7, self.clamp)
            value = value & ~(7 << 20) | enabled << 20
        if offset in self.values:
            self.values[offset] = value


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_against_the_model(name):
    """Random accesses, then the whole space once: what was not written is as it was."""
    config = CONFIGURATIONS[name]
    bench = FunctionBench(config)
    model = Model(config)
    generator = random.Random(name)
    words = list(range(0, 0x100, 4))

    async def access(bench, offset, select, write, data=0):
        payload = {"address": offset, "write": write, "data": data, "select": select}
        what = f"access to {offset:#x}"
        return await transact(bench.ctx, bench.dut.config_access, payload, what)

    async def scenario(bench):
        for _ in range(500):
            offset = generator.choice(words)
            if generator.random() < 0.1:
                offset = 4 * generator.randrange(1024)
            if generator.random() < 0.6:
                data = generator.choice([0, ALL_ONES, generator.getrandbits(32)])
                select = generator.randrange(16)
                assert await access(bench, offset, select, 1, data) == 0
                model.write(offset, data, select)
            neighbour = (offset + generator.choice([-4, 0, 0, 4])) % 4096
            read = await access(bench, neighbour, generator.randrange(16), 0)
            assert read == model.read(neighbour), hex(neighbour)
        for offset in range(0, 0x1000, 4):
            assert await access(bench, offset, 0xF, 0) == model.read(offset), hex(offset)
        assert not bench.writes
        assert not bench.events

    bench.run(scenario)


@pytest.mark.parametrize("ones", [True, False], ids=["ones", "zeros"])
def test_no_write_leaks(ones):
    """Write every word below 0x100 alone, and look at all that hold something."""
    config = EndpointConfig(maskable=True, msi_vectors=2, msix_vectors=2, bar_bits=64)
    bench = FunctionBench(config)
    registers = sorted(Model(config).values)

    async def scenario(bench):
        async def contents():
            return {offset: await bench.config_read(offset) for offset in registers}

        if not ones:
            for offset in registers:
                await bench.config_write(offset, ALL_ONES)
        before = await contents()
        for offset in range(0, 0x100, 4):
            await bench.config_write(offset, ALL_ONES if ones else 0)
            if offset in registers:
                after = await contents()
                changed = [other for other in registers if before[other] != after[other]]
                assert changed in ([], [offset]), f"a write to {offset:#x} changed {changed}"
                before = after
        assert await contents() == before, "writes where there is no register"

    bench.run(scenario)


def test_reads_change_nothing():
    bench = FunctionBench(CONFIGURATIONS["everything"])

    async def scenario(bench):
        for offset in range(0, 0x100, 4):
            await bench.config_write(offset, 0x5A5A_5A5A)
        twice = [[await bench.config_read(4 * i) for i in range(64)] for _ in range(2)]
        assert twice[0] == twice[1]
        assert twice[0][0] == 0xBEEF << 16 | pci.VENDOR_ID

    bench.run(scenario)
