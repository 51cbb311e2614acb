"""Physical CPU interface: the ICC system registers (section 6).

The rule behind everything: an interrupt is signalled while its group is enabled here and in the
distributor, its priority is strictly more urgent than PMR, and either nothing is active or its
group priority is strictly more urgent than the running one.

Group 0 has no registers here, so it is never enabled and no group 0 interrupt is ever signalled.
"""

from collections.abc import Callable

from .bank import Candidate
from .bits import field
from .gicd import Distributor
from .gicr import Redistributor
from .implementation import Implementation
from .lpi import FIRST_LPI
from .priorities import ActivePriorities

SPURIOUS = 1023
FIRST_SPECIAL = 1020

Access = tuple["Callable[[], int] | None", "Callable[[int], None] | None"]
"""How a system register is read and written; ``None`` where it cannot be."""


class CpuInterface:
    """One CPU's registers.

    Parameters
    ----------
    send_sgi : callable(sender, value)
        What a write to SGI1R does.
    """

    def __init__(
        self,
        cpu: int,
        distributor: Distributor,
        redistributor: Redistributor,
        choices: Implementation,
        send_sgi: Callable[[int, int], None],
    ):
        self._distributor = distributor
        self._redistributor = redistributor
        self._choices = choices
        self._active = ActivePriorities(choices)
        self._pmr = 0
        self._bpr = choices.minimum_bpr
        self._eoi_mode = False
        self._enabled = False
        self.registers: dict[str, Access] = {
            "ICC_IAR1_EL1": (self.read_iar, None),
            "ICC_HPPIR1_EL1": (self._read_hppir, None),
            "ICC_EOIR1_EL1": (None, self._write_eoir),
            "ICC_DIR_EL1": (None, self._write_dir),
            "ICC_PMR_EL1": (lambda: self._pmr, self._write_pmr),
            "ICC_BPR1_EL1": (lambda: self._bpr, self._write_bpr),
            "ICC_RPR_EL1": (lambda: self._active.running, None),
            "ICC_CTLR_EL1": (self._read_ctlr, self._write_ctlr),
            "ICC_IGRPEN1_EL1": (lambda: int(self._enabled), self._write_igrpen),
            "ICC_SGI1R_EL1": (None, lambda value: send_sgi(cpu, value)),
            "ICC_AP1R0_EL1": (lambda: self._active.bits, self._active.load),
            "ICC_SRE_EL1": (lambda: choices.sre, lambda value: None),
        }

    # What is signalled ------------------------------------------------------------------------

    @property
    def _open(self) -> bool:
        """Whether anything of group 1 reaches this CPU: enables, and a redistributor awake."""
        asleep = self._redistributor.asleep and self._choices.sleep_blocks
        return self._enabled and self._distributor.group1_enabled and not asleep

    def _best(self) -> "Candidate | None":
        """The most urgent pending interrupt, whatever PMR and the running priority say."""
        if not self._open:
            return None
        sources = (
            self._redistributor.private.candidate(),
            self._redistributor.lpis.candidate(),
            self._distributor.candidate(self._redistributor.cpu),
        )
        return min((c for c in sources if c is not None), default=None)

    def _passes(self, candidate: Candidate) -> bool:
        priority = candidate[0]
        group_priority = priority & self._choices.group_mask(self._bpr)
        return priority < self._pmr and self._active.preempted_by(group_priority)

    def signalled(self) -> "Candidate | None":
        """The interrupt that IAR1 would return now."""
        best = self._best()
        return best if best is not None and self._passes(best) else None

    @property
    def irq(self) -> bool:
        """The line."""
        return self.signalled() is not None

    # Registers --------------------------------------------------------------------------------

    def read_iar(self) -> int:
        signalled = self.signalled()
        if signalled is None:
            return SPURIOUS
        self._take(signalled)
        return signalled[1]

    def _take(self, candidate: Candidate) -> None:
        priority, intid = candidate
        self._active.activate(priority & self._choices.group_mask(self._bpr))
        if intid >= FIRST_LPI:
            self._redistributor.lpis.clear(intid)
        else:
            self._bank(intid).acknowledge(intid)

    def _bank(self, intid: int):
        return self._redistributor.private if intid < 32 else self._distributor.spis

    def _read_hppir(self) -> int:
        best = self._best() if self._choices.hppir_ignores_mask else self.signalled()
        return SPURIOUS if best is None else best[1]

    def _write_eoir(self, value: int) -> None:
        """Priority drop of whatever runs; in EOImode 0 also deactivation of the INTID named."""
        intid = field(value, 23, 0)
        if FIRST_SPECIAL <= intid <= SPURIOUS:
            return
        dropped = self._active.drop()
        if not self._eoi_mode and (dropped or self._choices.idle_eoi_deactivates):
            self.deactivate(intid)

    def _write_dir(self, value: int) -> None:
        if self._eoi_mode:
            self.deactivate(field(value, 23, 0))

    def deactivate(self, intid: int) -> None:
        """From here or from a guest; nothing to do for special INTIDs and LPIs."""
        if intid < FIRST_SPECIAL:
            self._bank(intid).deactivate(intid)

    def _write_pmr(self, value: int) -> None:
        self._pmr = value & self._choices.priority_mask

    def _write_bpr(self, value: int) -> None:
        self._bpr = max(value & 7, self._choices.minimum_bpr)

    def _read_ctlr(self) -> int:
        return interface_constants(self._choices) | self._eoi_mode << 1

    def _write_ctlr(self, value: int) -> None:
        """CBPR reads zero: the BPR0 it would point to belongs to group 0. PMHE is not there."""
        self._eoi_mode = bool(value & 2)

    def _write_igrpen(self, value: int) -> None:
        self._enabled = bool(value & 1)

    # The freedom of a property cache ----------------------------------------------------------

    def permitted(self) -> "dict[int, list[Candidate | None]]":
        """What IAR1 may return, by INTID, when property bytes may or may not be stale; for each
        INTID what it may be taken as.

        Every pending LPI competes as any of its options, independently of the others. So an
        option can win exactly when it beats every rival at that rival's weakest.
        """
        permitted: dict[int, list[Candidate | None]] = {}
        for winner in self._possible_winners() if self._open else [None]:
            if winner is not None and self._passes(winner):
                permitted.setdefault(winner[1], []).append(winner)
            else:
                permitted[SPURIOUS] = [None]
        return permitted

    def _possible_winners(self) -> "list[Candidate | None]":
        """Every candidate that could be the most urgent one; ``None``: there may be none."""
        lpis = self._redistributor.lpis
        certain = (
            self._redistributor.private.candidate(),
            self._distributor.candidate(self._redistributor.cpu),
        )
        contenders: list[list[Candidate | None]] = [[c] for c in certain]
        contenders += [lpis.options(intid) for intid in sorted(lpis.pending)]
        weakest = [
            None if None in options else max(c for c in options if c is not None)
            for options in contenders
        ]
        two_best = sorted((c, n) for n, c in enumerate(weakest) if c is not None)[:2]
        winners: list[Candidate | None] = []
        for n, options in enumerate(contenders):
            to_beat = next((c for c, rival in two_best if rival != n), None)
            winners += [c for c in options if c is not None and (not to_beat or c < to_beat)]
        return winners if two_best else [*winners, None]

    def acknowledge(self, intid: int, running: "int | None" = None) -> None:
        """Take what other hardware was seen to take: an INTID that :meth:`permitted` contains.

        ``running`` is the running priority it then showed, which says as what.
        """
        permitted = self.permitted()
        if intid not in permitted:
            expected = " or ".join(map(str, sorted(permitted)))
            raise ValueError(f"Acknowledging must give {expected}, not {intid}")
        candidate = permitted[intid][0]
        if candidate is None:
            return
        if running is not None:
            mask = self._choices.group_mask(self._bpr)
            possible = {c[0] & mask: c for c in reversed(permitted[intid]) if c is not None}
            if running not in possible:
                expected = " or ".join(f"{priority:#x}" for priority in sorted(possible))
                raise ValueError(f"Taking {intid}, priority {expected} must run, not {running:#x}")
            candidate = possible[running]
        if intid >= FIRST_LPI:
            self._redistributor.lpis.adopt(candidate)
        self._take(candidate)

    def state(self) -> dict:
        return {
            "pmr": self._pmr,
            "bpr": self._bpr,
            "eoi_mode": int(self._eoi_mode),
            "enabled": int(self._enabled),
            "active_priorities": self._active.bits,
            "running": self._active.running,
            "irq": int(self.irq),
        }


def interface_constants(choices: Implementation) -> int:
    """The read-only fields that ICC_CTLR and ICV_CTLR share: PRIbits, IDbits (16), A3V."""
    return choices.priority_bits - 1 << 8 | choices.affinity_3 << 15


def sgi_targets(sender: int, value: int, affinities: "list[int]") -> list[int]:
    """The CPUs a write of ``value`` to SGI1R addresses (section 6).

    Target list bit ``n`` is Aff0 = n; RS has no effect, since ICC_CTLR.RSS is 0.
    """
    if value >> 40 & 1:
        return [cpu for cpu in range(len(affinities)) if cpu != sender]
    cluster = field(value, 23, 16) << 8 | field(value, 39, 32) << 16 | field(value, 55, 48) << 32
    wanted = {cluster | bit for bit in range(16) if value >> bit & 1}
    return [cpu for cpu, affinity in enumerate(affinities) if affinity in wanted]
