import json

import pytest

import bench_check
from targets import TARGETS, Target

SPEED = Target("speed", "a ratio", "runs/[peers=4]/wall", "at most", 2.0, "s")
SHARE = Target("speed", "a share", "fast/2 x", "at least", 1 / 4, over="whole", inverse=True)


def report(folder, name="speed_cpu_2026-01-02.json", **changes):
    data = {
        "command": "python x.py",
        "date": "2026-01-02",
        "hardware": {"cores": 2},
        "runs": [{"peers": 8, "wall": 9.0}, {"peers": 4, "wall": 2.0}],
        "fast": {"2 x": 3},
        "whole": 10,
    }
    (folder / name).write_text(json.dumps(data | changes))


def lines(capsys):
    return [line.split()[0] for line in capsys.readouterr().out.splitlines()]


def test_figures_are_found_by_key_by_entry_and_as_ratios(tmp_path, capsys):
    report(tmp_path)
    assert bench_check.check(tmp_path, [SPEED, SHARE]) == 0
    met, share = capsys.readouterr().out.splitlines()
    assert met.split()[0] == share.split()[0] == "met"
    assert "2 s" in met, "the bound itself is met"
    assert "1/3.333" in share


def test_of_several_figures_the_worst_one_counts(tmp_path, capsys):
    report(tmp_path)
    least = Target("speed", "the least", "runs/*/wall", "at least", 2.5)
    most = Target("speed", "the most", "runs/*/wall", "at most", 8.0)
    report(tmp_path, "gaps_a_2026-01-02.json", runs=[{"wall": 1.0}, {"other": 1.0}])
    gap = Target("gaps", "not all are there", "runs/*/wall", "at most", 8.0)
    empty = Target("gaps", "no list", "whole/*", "at most", 8.0)
    assert bench_check.check(tmp_path, [least, most, gap, empty]) == 0
    assert lines(capsys) == ["MISSED", "MISSED", "missing", "missing"]


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({"runs": [{"peers": 4, "wall": 2.01}]}, ["MISSED", "met"]),
        ({"whole": 13}, ["met", "MISSED"]),
        ({"runs": []}, ["missing", "met"]),
        ({"whole": None}, ["met", "missing"]),
    ],
)
def test_missed_and_missing_figures_are_said_and_are_no_error(tmp_path, capsys, changes, verdicts):
    report(tmp_path, **changes)
    assert bench_check.check(tmp_path, [SPEED, SHARE]) == 0
    assert lines(capsys) == verdicts


def test_the_newest_report_counts_and_others_benchmarks_do_not(tmp_path, capsys):
    report(tmp_path, "speed_a_2026-01-02.json", date="2026-01-02", runs=[])
    report(tmp_path, "speed_b_2026-01-01.json", date="2026-01-01")
    report(tmp_path, "speed_of_light_c_2026-01-03.json", date="2026-01-03")
    assert bench_check.check(tmp_path, [SPEED]) == 0
    assert lines(capsys) == ["missing"]


@pytest.mark.parametrize(
    "changes",
    [{"command": ""}, {"date": 3}, {"hardware": None}, {"whole": 0}, {"runs": [{"peers": 4, "wall": "2"}]}],
)
def test_a_malformed_report_is_an_error(tmp_path, capsys, changes):
    report(tmp_path, **changes)
    assert bench_check.check(tmp_path, [SPEED, SHARE]) == 1
    assert "malformed: speed_cpu_2026-01-02.json" in capsys.readouterr().err


def test_what_is_no_json_is_an_error(tmp_path):
    (tmp_path / "speed_a_2026-01-02.json").write_text("{")
    (tmp_path / "speed_b_2026-01-02.json").write_text("[]")
    assert bench_check.check(tmp_path, []) == 2


def test_committed_reports_can_be_read_and_hold_what_is_aimed_for(capsys):
    assert bench_check.check(bench_check.RESULTS, TARGETS) == 0
    for line in capsys.readouterr().out.splitlines():
        assert "missing" not in line or "no " in line, f"the report is there, but not the figure: {line}"
