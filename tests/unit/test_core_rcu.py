"""Grace periods: a callback waits for the readers of then, and for no others."""

from functools import partial

from firmware_model.core.rcu import Rcu
from firmware_model.machine import Machine

from .test_machine_host import Host, acknowledging


def note(record, what):
    async def callback(cpu):
        record.append((what, cpu.index, cpu.machine.cycle))

    return callback


class Readers:
    """Programs that read from one clock to another, and one that calls back."""

    def __init__(self, cpus=2):
        self.machine = Machine(cpus, vector=acknowledging)
        self.rcu = Rcu(cpus)
        self.called = []

    async def read(self, begin, end, cpu):
        await cpu.delay_until(begin)
        with self.rcu.reading(cpu):
            await cpu.delay_until(end)

    async def call(self, at, what, cpu):
        await cpu.delay_until(at)
        self.rcu.call(cpu, note(self.called, what))

    def run(self, *programs):
        for cpu, program in programs:
            self.machine.cpus[cpu].spawn(program)
        assert Host(self.machine).run().finished
        return self.called


def test_without_readers_it_comes_at_once():
    readers = Readers()
    assert readers.run((0, partial(readers.call, 10, "a"))) == [("a", 0, 10)]


def test_it_waits_for_a_reader_elsewhere():
    readers = Readers()
    read, call = partial(readers.read, 5, 50), partial(readers.call, 10, "a")
    assert readers.run((1, read), (0, call)) == [("a", 0, 50)]


def test_it_does_not_wait_for_who_comes_later():
    readers = Readers(3)
    early, late = partial(readers.read, 5, 30), partial(readers.read, 20, 90)
    assert readers.run((1, early), (2, late), (0, partial(readers.call, 10, "a"))) == [("a", 0, 30)]


def test_sections_nest():
    readers = Readers()

    async def nested(cpu):
        with readers.rcu.reading(cpu):
            await readers.read(5, 20, cpu)
            await cpu.delay_until(40)

    assert readers.run((1, nested), (0, partial(readers.call, 10, "a"))) == [("a", 0, 40)]


def test_the_last_of_several_readers_counts():
    readers = Readers(3)
    one, other = partial(readers.read, 5, 30), partial(readers.read, 5, 60)
    assert readers.run((1, one), (2, other), (0, partial(readers.call, 10, "a"))) == [("a", 0, 60)]


def test_a_reader_that_crashes_is_never_done():
    readers = Readers()

    async def crash(cpu):
        with readers.rcu.reading(cpu):
            await cpu.delay_until(20)
            raise RuntimeError("oops")

    assert readers.run((1, crash), (0, partial(readers.call, 10, "a"))) == []
