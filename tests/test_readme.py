"""What the README shows works."""

import re

import pytest

from sim.cache import ROOT
from sim.scenarios import SCENARIOS, find_scenario
from sim.sweep import parse_grid, points
from sim.sweep.pool import Runner

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_every_python_block_of_the_readme_runs(capsys):
    assert len(BLOCKS) >= 2
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), {})
    assert "acknowledge" in capsys.readouterr().out, "the example prints what happened"


@pytest.mark.parametrize(
    ("scenario", "name", "span"),
    [
        ("torn-msi", "VectorFirst", "inject=40:70:10"),
        ("fasteoi-migration", "BusyWait", "inject2=350:750:200"),
    ],
)
def test_a_strategy_of_the_readme_is_one_that_a_sweep_takes(scenario, name, span, tmp_path):
    [block] = [block for block in BLOCKS if f"class {name}(" in block]
    assert block.count("\n") <= 22
    file = tmp_path / "mine.py"
    file.write_text(block)
    word = f"{file}:{name}"
    found = find_scenario(scenario)
    with Runner(scenario) as runner:
        wanted = points([word], parse_grid(found, ["default", span]), found)
        results = list(runner.run_all(wanted))
    assert not any(result.error or "crash" in result.verdicts for result in results)
    if name == "BusyWait":
        assert not any(result.verdicts for result in results)


def test_the_readme_names_every_scenario():
    text = (ROOT / "README.md").read_text()
    for name in SCENARIOS:
        assert f"| `{name}` |" in text


def test_the_readme_shows_the_two_commands_and_a_picture_that_exists():
    text = (ROOT / "README.md").read_text()
    assert "./irqscope demo" in text
    assert "./irqscope test" in text
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (ROOT / picture).exists(), picture
