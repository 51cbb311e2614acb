"""A board that is a simulation: its serial line is a pseudo-terminal, its pins are driven.

``python -m sim.hosts.board_simulated icebreaker`` prints the name of the pseudo-terminal, which
then is what a board's serial port would be, until it is stopped.
"""

import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from hdl.boards.lab import PATIENCE
from hdl.boards.platforms import BOARDS, find_board
from hdl.boards.uart import FRAME_BITS

from ..design import Design
from .cocotb import model_folder, simulate

TOP = "hdl.boards.lab:Lab"
SERVE = "sim.hosts.board_simulated:serve"
"""By name, for it runs in another process; as a program, this module has another one."""
DIVISOR = 4
"""Clocks a bit: as few as the receiver can do with, for the sake of speed."""
CLOCK_NS = 10
REST = 2 * PATIENCE
"""Bits of silence after which a board that is not busy does nothing any more."""
NAP = 0.1
"""Seconds that are waited then for something to do."""
BUSY_LEDS = 0b11
STRIDE = 16
"""Bits between two looks at the terminal."""
LOOK_AROUND = 10_000
"""Bits between two looks at whether anybody still wants it."""


async def serve(design: Design, top, folder: str, parent: int) -> int:
    """Inside the simulator: a serial cable between a new pseudo-terminal and the pins.

    ``folder/port`` becomes a link to the terminal. It ends when the folder or the process
    ``parent`` is gone, and returns the clocks that passed.
    """
    import cocotb
    from cocotb.clock import Clock
    from cocotb.triggers import Timer

    ours, theirs = os.openpty()  # both stay open: programs may open and close it meanwhile
    tty.setraw(theirs)
    divisor = design.config.divisor
    bit = divisor * CLOCK_NS

    top.rx.value = 1
    top.rst.value = 1
    Clock(top.clk, CLOCK_NS, "ns", impl="gpi").start()
    await Timer(4 * CLOCK_NS + 1, "ns")  # off the edges from here on
    top.rst.value = 0
    Path(folder, "port").symlink_to(os.ttyname(theirs))

    heard: list[int] = []
    cocotb.start_soon(_listen(top, bit, ours, heard))
    bits = silence = looked = 0
    while True:
        if int(top.leds.value) & BUSY_LEDS:
            silence = 0
        idle = silence > REST
        if idle or bits - looked > LOOK_AROUND:
            if not _wanted(folder, parent):
                return bits * divisor
            looked = bits
        before = len(heard)
        if select.select([ours], [], [], NAP if idle else 0)[0]:
            for byte in os.read(ours, 4096):
                for level in (0, *(byte >> i & 1 for i in range(8)), 1):
                    top.rx.value = level
                    await Timer(bit, "ns")
                    bits += 1
            silence = 0
        elif not idle:  # otherwise the machine under the simulator has a rest, too
            await Timer(STRIDE * bit, "ns")
            bits += STRIDE
            silence = silence + STRIDE if len(heard) == before else 0


async def _listen(top, bit: int, terminal: int, heard: list[int]) -> None:
    """What the board says goes to the terminal."""
    from cocotb.triggers import FallingEdge, Timer

    while True:
        await FallingEdge(top.tx)
        await Timer(bit // 2, "ns")
        byte = 0
        for place in range(FRAME_BITS - 2):
            await Timer(bit, "ns")
            byte |= int(top.tx.value) << place
        os.write(terminal, bytes([byte]))
        heard.append(byte)
        await Timer(bit, "ns")


def _wanted(folder: str, parent: int) -> bool:
    try:
        os.kill(parent, 0)
    except ProcessLookupError:
        return False
    return Path(folder).exists()


@contextmanager
def simulated_board(design: Design) -> Iterator[str]:
    """The name of a serial port, behind which ``design``, a laboratory, is simulated."""
    model_folder(design, "verilator")
    failed: list[Exception] = []
    folder = Path(tempfile.mkdtemp(prefix="irqscope-"))

    def work() -> None:
        try:
            simulate(design, SERVE, {"folder": str(folder), "parent": os.getpid()})
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while not (folder / "port").is_symlink() and thread.is_alive():
            time.sleep(0.05)
        if thread.is_alive():
            yield str((folder / "port").readlink())
    finally:
        shutil.rmtree(folder)
        thread.join()
    if failed:
        raise failed[0]


def main() -> None:
    """Simulate the board that the command line names until it is interrupted."""
    try:
        if len(sys.argv) != 2:
            raise ValueError(f"say which board: one of {', '.join(BOARDS)}")
        board = find_board(sys.argv[1])
    except ValueError as error:
        print(f"board_simulated: {error}", file=sys.stderr)
        sys.exit(2)
    design = Design(replace(board.lab, divisor=DIVISOR), TOP)
    with suppress(KeyboardInterrupt):
        model_folder(design, "verilator")
        # What a terminal's Ctrl-C sends goes to the simulator, too, which ends by itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with simulated_board(design) as port:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            print(port, flush=True)
            signal.pause()


if __name__ == "__main__":
    main()
