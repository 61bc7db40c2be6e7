from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from drivers.base.registry import Registry
from labd.core.errors import ConfigError
from labd.core.model import Part
from labd.core.retention import RetentionLimits
from labd.data import bundled
from labd.station.config import LabConfig, load_config
from labd.station.stations_file import BrokerTable, check_stations_file
from labd.wire.emulation import Emulation

from .conftest import FAKES, Load, PortConfig, PowerConfig, registry_of

DEFAULT = Path(__file__).parents[3] / "stations.toml"

REAL = """
[lab]
name = "attic"
state = "/srv/state"
firmware = ["images", "/opt/images"]
datasets = ["sets"]

[broker]
url = "mqtt://labd:secret@broker.example"

[[station]]
name = "bench-3"
board = "nucleo-l4r5zi"
voltage_mv = 1800
off_s = 2
processing_wire = true
dut = { driver = "serial-dut", port = "/dev/x", baud = 9600 }
io = { driver = "mlcommons-interface", port = "/dev/y" }
flasher = { driver = "nucleo-drive", path = "/media/NODE_L4R5ZI" }

[station.power]
driver = "acme-9000"
port = "/dev/z"
output = "current"

[[station]]
name = "bench-4"
board = "a-board-of-my-own"
dut = { driver = "serial-dut", port = "/dev/w" }
"""

DUT = "dut = { driver = 'serial-dut', port = 'x' }"
EMULATED = """
[[station]]
name = "v"
board = "nucleo-l4r5zi"
emulated = {}
"""


def mistakes(load: Load, text: str | bytes) -> list[str]:
    """The lines of the refusal, without the file's folder."""
    with pytest.raises(ConfigError) as caught:
        load(text)
    head, *lines = str(caught.value).split("\n  ")
    assert ("a mistake" in head) == (len(lines) == 1)
    return [line[line.index("stations.toml") + len("stations.toml:") :] for line in lines]


# ---- what is right -----------------------------------------------------------------------


def test_a_real_lab(load: Load, tmp_path: Path) -> None:
    lab = load(REAL)
    assert (lab.name, lab.state) == ("attic", Path("/srv/state"))
    assert lab.firmware == (tmp_path / "images", Path("/opt/images"), bundled("firmware"))
    assert lab.datasets == (tmp_path / "sets", bundled("datasets"))
    assert lab.broker.url == "mqtt://labd:secret@broker.example"
    station = lab.find_station("bench-3")
    assert set(station.parts) == set(Part)
    assert (station.voltage_mv, station.off_s, station.processing_wire) == (1800, 2.0, True)
    assert station.emulated is None
    assert station.parts[Part.DUT].config == PortConfig(port="/dev/x", baud=9600)
    assert station.parts[Part.POWER].driver == "acme-9000"
    assert station.parts[Part.POWER].config == PowerConfig(port="/dev/z", output="current")
    assert station.flasher is station.parts[Part.FLASHER]
    assert lab.find_station("bench-4").flasher is None
    with pytest.raises(ConfigError, match="known: bench-3, bench-4"):
        lab.find_station("bench-5")


def test_the_shortest_lab(load: Load, tmp_path: Path) -> None:
    lab = load(EMULATED)
    assert (lab.name, lab.state) == ("lab", tmp_path / "var")
    assert lab.broker == BrokerTable(url=None, port=1883)
    (station,) = lab.stations
    assert station.emulated == Emulation(
        parts=["dut", "io", "power"],
        mode="pace",
        seed=1,
        firmware="digits01-performance",
        monitor="lpm01a",
    )
    ports = tmp_path / "var" / "bench" / "v"
    assert station.parts[Part.IO].config == PortConfig(port=str(ports / "io"))
    assert station.parts[Part.POWER].config == PowerConfig(port=str(ports / "power"))
    flasher: Any = station.parts[Part.FLASHER].config
    assert flasher.path == ports / "drive"
    assert station.processing_wire


def test_an_emulated_station_may_lack_parts(load: Load) -> None:
    (station,) = load(EMULATED.replace("{}", '{ parts = ["dut"] }')).stations
    assert set(station.parts) == {Part.DUT, Part.FLASHER}
    assert not station.processing_wire


def test_the_command_line_may_choose_state_and_port(load: Load, tmp_path: Path) -> None:
    lab = load(EMULATED, state=tmp_path / "elsewhere", port=2883)
    assert lab.state == tmp_path / "elsewhere"
    assert lab.broker.port == 2883
    port: Any = lab.stations[0].parts[Part.DUT].config
    assert port.port == str(tmp_path / "elsewhere" / "bench" / "v" / "dut")


def test_the_default_lab_stands_as_it_is() -> None:
    lab = load_config(DEFAULT, registry_of(FAKES))
    assert [station.name for station in lab.stations] == ["virtual-1", "virtual-2"]
    assert [s.emulated and (s.emulated.seed, s.emulated.firmware) for s in lab.stations] == [
        (1, "digits01-performance"),
        (2, "digits01-energy"),
    ]
    assert lab.broker == BrokerTable(url=None, port=1883)


def test_the_default_labs_commented_station_is_right(load: Load) -> None:
    text = DEFAULT.read_text(encoding="utf-8")
    commented = re.sub(r"^# ?", "", text[text.index("# [[station]]") :], flags=re.MULTILINE)
    lab = load(EMULATED + commented)
    assert set(lab.find_station("bench-3").parts) == set(Part)


# ---- what is wrong -----------------------------------------------------------------------


def test_every_mistake_at_once_each_at_its_line(load: Load) -> None:
    found = mistakes(
        load,
        """\
[lab]
nmae = "x"
state = 3
[broker]
url = "http://u:secret@x"
port = 99

[[station]]
name = "a b"
board = "nucleo-l4r5z"
emulated = { parts = ["dut", "powr"], seed = -1 }
[[station]]
name = "b"
board = "nucleo-l4r5zi"
dut = { driver = "serial-dutt", port = "/dev/x" }
[[station]]
name = "b"
board = "q"
[station.dut]
driver = "serial-dut"
port = "/dev/x"
buad = 3
[station.power]
driver = "lpm01a"
[station.flasher]
driver = "serial-dut"
""",
    )
    assert [line.split(": ")[0:2] for line in found] == [
        ["2:1", "lab.nmae"],
        ["3:1", "lab.state"],
        ["5:1", "broker.url"],
        ["6:1", "broker.port"],
        ["9:1", "station[0].name"],
        ["10:1", "station[0].board"],
        ["11:30", "station[0].emulated.parts[1]"],
        ["11:39", "station[0].emulated.seed"],
        ["15:9", "station[1].dut.driver"],
        ["17:1", "station[2].name"],
        ["18:1", "station[2].board"],
        ["22:1", "station[2].dut.buad"],
        ["23:1", "station[2].power.port"],
        ["26:1", "station[2].flasher.driver"],
    ]
    text = "\n".join(found)
    for expected in (
        "did you mean name? (known: name, state, firmware, datasets, expire_after_days)",
        "3 is not a string",
        "'a b' is not a name",
        "did you mean nucleo-l4r5zi?",
        "'powr' is not one of dut, io, power; did you mean power?",
        "'serial-dutt' is not one of serial-dut; did you mean serial-dut?",
        "'b' is the name of station[1] already",
        "did you mean baud? (known: driver, port, baud)",
        "is missing",
        "'serial-dut' is not one of nucleo-drive",
    ):
        assert expected in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("emulated = {}\nvoltage_mv = 3.3", "12:1: station[0].voltage_mv: 3.3 is not a whole"),
        ("emulated = {}\nvoltage_mv = 90000", "90000 is not at most 5500"),
        ("emulated = {}\nvoltage_mv = '3000'", "'3000' is not a whole number"),
        ("emulated = {}\nprocessing_wire = 1", "1 is not true or false"),
        ("emulated = true", "station[0].emulated: true is not a table"),
        ("emulated = {}\ntime_base = 'virtual'", "an emulated station follows virtual time"),
        ("time_base = 'mine'", "'mine' is not one of host, virtual"),
        ("emulated = { mode = 'fast' }", "'fast' is not one of pace, freeze"),
        ("emulated = { parts = ['power'] }", "has neither dut nor io"),
        ("emulated = {}\ndut = { driver = 'serial-dut', port = 'x' }", "take out one of the two"),
        ("", "station[0]: has neither dut nor io: there is no serial way to the board"),
        ("dut = 'COM3'", "station[0].dut: 'COM3' is not a table"),
        ("dut = {}", "dut.driver: is missing: it names the driver, one of serial-dut"),
        ("dut = { driver = 3 }", "dut.driver: is not a string: it names the driver"),
        ("dut = { driver = 'serial-dut', port = '' }", "port: '' is not at least 1 characters"),
        (
            f"{DUT}\nprocessing_wire = true",
            "12:1: station[0].processing_wire: the wire ends at the I/O manager",
        ),
        (
            f"{DUT}\nio = {{ driver = 'mlcommons-interface', port = 'x' }}",
            "12:40: station[0].io.port: x is in use already by station[0].dut.port",
        ),
        (
            f"{DUT}\npower = {{ driver = 'lpm01a', port = 'y', output = 'heat' }}",
            "station[0].power.output: 'heat' is not one of energy, current",
        ),
    ],
)
def test_what_a_station_may_not_hold(load: Load, change: str, expected: str) -> None:
    text = f"\n\n\n\n\n\n\n[[station]]\nname = 's'\nboard = 'nucleo-l4r5zi'\n{change}\n"
    assert expected in "\n".join(mistakes(load, text))


def test_one_device_under_two_names(load: Load, tmp_path: Path) -> None:
    (tmp_path / "ttyACM0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyACM0")
    text = "".join(
        f"[[station]]\nname = '{name}'\nboard = 'b'\n"
        f"dut = {{ driver = 'serial-dut', port = '{tmp_path / port}' }}\n"
        for name, port in (("one", "ttyACM0"), ("two", "by-id"))
    )
    (found,) = mistakes(load, text)
    assert found.startswith("8:32: station[1].dut.port:")
    assert "in use already by station[0].dut.port" in found


def test_a_board_labd_flashes_needs_a_folder_of_images(load: Load, tmp_path: Path) -> None:
    text = """
[[station]]
name = "s"
board = "my-board"
dut = { driver = "serial-dut", port = "x" }
flasher = { driver = "nucleo-drive", path = "/media/x" }
"""
    assert "'my-board' is not one of nucleo-l4r5zi" in mistakes(load, text)[0]
    (tmp_path / "build" / "firmware" / "my-board").mkdir(parents=True)
    assert load(text).stations[0].board == "my-board"


def test_how_long_traces_are_kept(load: Load) -> None:
    assert load(EMULATED).keep == RetentionLimits()
    kept = load("[traces]\nkeep_days = 90\nkeep_gb = 0.5\n" + EMULATED).keep
    assert kept == RetentionLimits(90.0, 500_000_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: station: a lab needs at least one [[station]], with two brackets"),
        ("station = []", "at least one [[station]]"),
        ("[station]\nname = 's'", "with two brackets"),
        ("station = [3]", "station[0]: 3 is not a table"),
        ("lab = 3\n" + EMULATED, "1:1: lab: 3 is not a table"),
        ("broker = 3\n" + EMULATED, "1:1: broker: 3 is not a table"),
        ("labb = {}\n" + EMULATED, "did you mean lab? (known: lab, broker, traces, station)"),
        ("[lab]\nfirmware = 'x'\n" + EMULATED, "2:1: lab.firmware: 'x' is not a list"),
        ("[broker]\nurl = 3\n" + EMULATED, "2:1: broker.url: 3 is not a string"),
        ("[broker]\nport = 99999\n" + EMULATED, "2:1: broker.port: 99999 is not at most 65535"),
        ("[traces]\nkeep_days = 0\n" + EMULATED, "2:1: traces.keep_days: 0 is not more than 0"),
        ("[traces]\nkeep_gb = '5'\n" + EMULATED, "2:1: traces.keep_gb: '5' is not a number"),
        ("[lab]\nname = 'a.b'\n" + EMULATED, "'a.b' is not a name"),
    ],
)
def test_what_a_lab_may_not_hold(load: Load, text: str, expected: str) -> None:
    assert expected in "\n".join(mistakes(load, text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[lab]\nname = ", "stations.toml:2:8: not TOML: "),
        ("[lab]\n[lab]\n", "stations.toml:2:"),
        ("a = 1\na = 2\n", "stations.toml:2:"),
        (b"[lab]\nname = '\xff'", "stations.toml:2: not UTF-8"),
        ("a = " + "[" * 5000, "stations.toml"),
        ("\x00", "stations.toml:1:1: not TOML"),
    ],
)
def test_what_is_no_toml(load: Load, text: str | bytes, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert caught.value.code == "bad-config"
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_deep_toml_is_a_mistake_not_a_crash(load: Load) -> None:
    for depth in (50, 200, 400, 800, 3000):
        with pytest.raises(ConfigError):
            load("a = " + "[" * depth + "]" * depth + "\n" + EMULATED)


def test_a_file_that_is_not_there(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(ConfigError, match="name it with --config"):
        load_config(tmp_path / "stations.toml", registry)
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path, registry)


def test_a_driver_that_cannot_be_imported_is_one_of_the_mistakes(tmp_path: Path) -> None:
    def broken() -> type[Any]:
        raise ImportError("No module named 'acme'")

    path = tmp_path / "stations.toml"
    path.write_text("[[station]]\nname = 's'\nboard = 'b'\nextra = 1\ndut = { driver = 'acme' }\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, Registry({"acme": broken}))
    assert "5:9: station[0].dut.driver: driver acme cannot be loaded" in str(caught.value)
    assert "4:1: station[0].extra" in str(caught.value)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "board", "emulated", "dut", "driver", "port", "parts", "url"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["lab", "broker", "station", "x"]), json_like, max_size=4))
def test_any_document_is_checked_without_a_crash(document: dict[str, Any]) -> None:
    checked = check_stations_file(document, registry_of(FAKES), Path("/nowhere"))
    assert checked.mistakes or checked.file is not None
    for found in checked.mistakes:
        assert str(found.mistake)


@given(st.text(max_size=60))
def test_any_text_is_a_lab_or_a_config_error(text: str) -> None:
    with suppress(tomli.TOMLDecodeError):
        check_stations_file(tomli.loads(text), registry_of(FAKES), Path("/nowhere"))


# ---- by the real drivers' own knowledge --------------------------------------------------


def real(tmp_path: Path, *lines: str, head: str = "") -> LabConfig:
    """Load a station with these lines by the drivers that are installed."""
    path = tmp_path / "stations.toml"
    table = ["[[station]]", "name = 's'", "board = 'b'", DUT, *lines]
    path.write_text(head + "\n".join(table) + "\n")
    return load_config(path, Registry.from_entry_points())


def refused(tmp_path: Path, *lines: str) -> list[str]:
    """What is expected of such a station, each from its line number on."""
    with pytest.raises(ConfigError) as caught:
        real(tmp_path, *lines)
    return [line.partition("stations.toml:")[2] for line in str(caught.value).split("\n  ")[1:]]


EEMBC = "io = { driver = 'eembc-io-manager', port = 'y', timestamp_wire = %s }"
BINARY = "power = { driver = 'lpm01a', port = 'z', format = 'binary' }"
N6705 = "power = { driver = 'n6705', resource = 'socket://a:1'%s }"
METER = """[station.power]
driver = 'scpi-meter'
resource = 'socket://a:1'
expect = 'K'
rate_hz = 1000
supply_on = ['OUTP ON']
supply_off = ['OUTP OFF']
start = ['INIT']
read = 'FETC?'
"""


@pytest.mark.parametrize(
    ("lines", "sees"),
    [
        (["power = { driver = 'lpm01a', port = 'z' }"], True),
        ([BINARY], False),
        ([BINARY, EEMBC % "false"], False),
        ([BINARY, EEMBC % "true"], True),
        ([BINARY, EEMBC % "false", "processing_wire = true"], True),
        ([BINARY, "io = { driver = 'mlcommons-interface', port = 'y' }"], False),
        (["power = { driver = 'ppk2', port = 'z' }"], True),
        (["power = { driver = 'joulescope' }"], True),
        (["power = { driver = 'otii' }"], True),
        ([N6705 % ""], False),
        ([N6705 % ", io_channel = 2, io_threshold_a = 0.001"], True),
        ([METER], False),
    ],
)
def test_whether_a_station_sees_the_timestamps(
    tmp_path: Path, lines: list[str], *, sees: bool
) -> None:
    (station,) = real(tmp_path, *lines).stations
    assert station.sees_timestamps is sees
    assert ("no I/O manager times the batches" in station.energy_obstacle) is not sees


def test_a_station_without_a_monitor_is_not_called_blind(tmp_path: Path) -> None:
    (station,) = real(tmp_path).stations
    assert station.energy_obstacle == ""


def test_a_driver_without_declarations_is_accepted(load: Load) -> None:
    station = load(REAL).find_station("bench-3")
    assert station.sees_timestamps


@pytest.mark.parametrize(
    ("driver", "least", "most"),
    [
        ("driver = 'lpm01a', port = 'z'", 1800, 3300),
        ("driver = 'ppk2', port = 'z'", 1000, 5000),
        ("driver = 'n6705', resource = 'socket://a:1'", 1000, 3600),
        ("driver = 'n6705', resource = 'socket://a:1', max_mv = 5000", 1000, 5000),
        ("driver = 'otii'", 1000, 3600),
        ("driver = 'joulescope', voltage_range = '2 V'", 1000, 2000),
    ],
)
def test_a_supply_that_the_monitor_is_not_for(
    tmp_path: Path, driver: str, least: int, most: int
) -> None:
    power = f"power = {{ {driver} }}"
    for voltage_mv in (least, most):
        real(tmp_path, f"voltage_mv = {voltage_mv}", power)
    (reported,) = refused(tmp_path, f"voltage_mv = {most + 1}", power)
    assert reported.startswith(f"5:1: station[0].voltage_mv: {most + 1} mV is not within")
    assert f"to {most} mV" in reported
    if least > 1000:
        (reported,) = refused(tmp_path, f"voltage_mv = {least - 1}", power, "off = 3")[:1]
        assert f"{least - 1} mV is not within {least} to" in reported


def test_the_default_supply_may_be_wrong_too(tmp_path: Path) -> None:
    (reported,) = refused(tmp_path, METER + "supply_mv = [1800, 2500]")
    assert reported.startswith("1:1: station[0].voltage_mv: 3000 mV (the default) is not within")


def test_an_emulated_monitor_has_its_range_too(tmp_path: Path) -> None:
    path = tmp_path / "stations.toml"
    path.write_text(EMULATED + "voltage_mv = 4000\n")
    with pytest.raises(ConfigError, match=r":6:1: .*4000 mV is not within 1800 to 3300"):
        load_config(path, Registry.from_entry_points())
    path.write_text(EMULATED.replace("{}", "{ monitor = 'ppk2' }") + "voltage_mv = 4000\n")
    assert load_config(path, Registry.from_entry_points()).stations[0].voltage_mv == 4000


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        ("'OUTP ON'", "'A', 'VOLT {volts:.3q}'", 10, "supply_on[1]: 'VOLT {volts:.3q}': Unknown"),
        ("'OUTP ON'", "'VOLT {nope}'", 10, "supply_on[0]: unknown placeholder {nope}"),
        ("'INIT'", "'VOLT {volts}'", 12, "start[0]: unknown placeholder {volts}; known: rate"),
        ("FETC?", "FETC? {nope}", 13, "read: unknown placeholder {nope}; known: rate_hz"),
        ("FETC?", "FETC? {readings}", 5, "read: {readings} has no value: give `readings`"),
    ],
)
def test_a_wrong_placeholder_is_reported_at_its_line(
    tmp_path: Path, old: str, new: str, line: int, expected: str
) -> None:
    (reported,) = refused(tmp_path, METER.replace(old, new))
    assert reported.startswith(f"{line}:")
    assert expected in reported


def test_wrong_placeholders_are_reported_beside_other_mistakes(tmp_path: Path) -> None:
    wrong = METER.replace("'OUTP ON'", "'VOLT {volts:.3q}', 'X {nope}'").replace("1000", "-1")
    found = refused(tmp_path, wrong + "colour = 3\nstop = ['A {nope}']")
    assert [line.partition(": ")[0].partition(":")[0] for line in found] == [
        "9",
        "10",
        "10",
        "14",
        "15",
    ]
