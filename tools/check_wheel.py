"""See that a built wheel holds every module and every data file of src/distrai.

Run: ``python tools/check_wheel.py build/wheel/*.whl`` (``make wheel`` builds it first).
"""

import sys
import zipfile
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
IGNORED = {"__pycache__"}


def missing_files(wheel: Path, source: Path) -> list[str]:
    """Files below ``source``/distrai, relative to ``source``, that are not in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = (path for path in (source / "distrai").rglob("*") if path.is_file())
    wanted = {path.relative_to(source).as_posix() for path in files if not IGNORED & set(path.parts)}
    return sorted(wanted - packed)


def main(arguments: list[str]) -> int:
    """Exit code 1 and the names where a file is missing."""
    if len(arguments) != 1:
        print("give one wheel: python tools/check_wheel.py build/wheel/*.whl", file=sys.stderr)
        return 2
    missing = missing_files(Path(arguments[0]), SOURCE)
    for name in missing:
        print(
            f"not in the wheel: {name} (see tool.setuptools.package-data in pyproject.toml)", file=sys.stderr
        )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
