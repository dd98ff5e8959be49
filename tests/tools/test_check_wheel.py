import importlib.util
import zipfile
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "tools" / "check_wheel.py"
spec = importlib.util.spec_from_file_location("check_wheel", PATH)
assert spec
assert spec.loader
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def make(folder: Path, packed: list[str]) -> Path:
    for name in ("distrai/a.py", "distrai/data/x.json", "distrai/__pycache__/a.pyc"):
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with zipfile.ZipFile(folder / "x.whl", "w") as archive:
        for name in packed:
            archive.writestr(name, "")
    return folder / "x.whl"


@pytest.mark.parametrize(
    ("packed", "missing"),
    [(["distrai/a.py", "distrai/data/x.json"], []), (["distrai/a.py"], ["distrai/data/x.json"])],
)
def test_a_missing_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: list[str], missing: list[str]
) -> None:
    wheel = make(tmp_path, packed)
    assert tool.missing_files(wheel, tmp_path / "src") == missing
    monkeypatch.setattr(tool, "SOURCE", tmp_path / "src")
    assert tool.main([str(wheel)]) == (1 if missing else 0)


def test_it_wants_one_wheel() -> None:
    assert tool.main([]) == 2
