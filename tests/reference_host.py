"""A host without gateware: every access is carried out at once by the reference model."""

from firmware_model.machine import Line
from hdl.cpu_port import Operation
from hdl.registers.sysreg import SystemRegister
from sim.reference import BusFaultError, ReferenceMachine

from .unit.test_machine_host import Host

LOAD, STORE = Operation.LOAD.value, Operation.STORE.value
READ_SYSREG, WRITE_SYSREG = Operation.READ_SYSREG.value, Operation.WRITE_SYSREG.value
NAMES = {register.value: register.name for register in SystemRegister}


class ReferenceHost(Host):
    """Runs ``machine`` on ``reference``; ``events`` as for :class:`Host`.

    An access takes effect when it is answered, ``latency`` clocks after it was asked for.
    """

    def __init__(self, machine, reference: ReferenceMachine, **options):
        super().__init__(machine, **options)
        self.reference = reference

    def device_event(self, endpoint=0, vector=0):
        self.reference.raise_event(endpoint, vector)
        self._look()

    def _perform(self, submission):
        cpu, operation, size, address, data = submission
        self.accesses.append((self.cycle, cpu, operation, size, address, data))
        reference, answer = self.reference, 0
        try:
            if operation == READ_SYSREG:
                answer = reference.read_sysreg(cpu, NAMES[address])
            elif operation == WRITE_SYSREG:
                reference.write_sysreg(cpu, NAMES[address], data)
            elif operation == STORE:
                reference.store(cpu, address, data, 1 << size)
            else:
                answer = reference.load(cpu, address, 1 << size)
        except BusFaultError:
            return 0, 1
        finally:
            self._look()
        return answer, 0

    def _look(self):
        reference = self.reference
        for cpu in range(len(self.lines)):
            self.lines[cpu] = (
                Line.IRQ * reference.irq(cpu)
                | Line.VIRQ * reference.virq(cpu)
                | Line.INTR * reference.intr(cpu)
            )
