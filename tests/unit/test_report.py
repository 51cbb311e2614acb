"""Tables: what a reader must find in them."""

import io

from rich.console import Console

from sim.report import print_tour
from sim.scenarios import find_scenario
from sim.sweep import Point, Result, Sweep


def test_the_tour_fits_a_terminal_and_names_what_was_found_and_what_failed():
    torn, first = find_scenario("torn-msi"), find_scenario("first-msi")
    bad = frozenset({"lost", "misdirected", "wrong_cpu"})
    results = [
        Result(Point("naive", {}), bad),
        Result(Point("naive", {})),
        Result(Point("as-coded", {}), bad),
        Result(Point("two-step", {}), error="no such thing"),
    ]
    names = ["naive", "as-coded", "two-step"]
    sweeps = [
        Sweep(first, ["plain"], 1, [Result(Point("plain", {}))], 1.0),
        Sweep(torn, names, 4, results, 1.0),
    ]
    text = io.StringIO()
    print_tour(sweeps, Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    [naive] = [line for line in lines if "naive" in line]
    assert naive.split()[:4] == ["torn-msi", "naive", "2", "1"]
    assert "lost 1" in naive
    [coded] = [line for line in lines if "as-coded" in line]
    assert "broken" in coded
    [plain] = [line for line in lines if "plain" in line]
    assert plain.split() == ["first-msi", "plain", "holds", "1", "1"]
    assert "wrong cpu 1" in text.getvalue().replace("\n", " ")
    assert lines[-1] == "torn-msi, two-step: no such thing"
    assert all(len(line) <= 80 for line in lines)
