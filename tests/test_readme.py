"""What the README shows works."""

import re

from sim.cache import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_every_python_block_of_the_readme_runs(capsys):
    assert len(BLOCKS) >= 2
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), {})
    assert "acknowledge" in capsys.readouterr().out, "the example prints what happened"


def test_the_readme_shows_the_two_commands_and_a_picture_that_exists():
    text = (ROOT / "README.md").read_text()
    assert "./irqscope demo" in text
    assert "./irqscope test" in text
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (ROOT / picture).exists(), picture
