"""What a job gives to others names no folder of the machine where it was made."""

import hashlib
import json
from pathlib import Path

import pytest

from distrai.jobs.estimates.machine import visible
from distrai.jobs.models.portable import folder_hash, paths_of, without_paths
from helpers.job_scripts import HEADER, new_job, run_job
from helpers.job_scripts import script as script_of

BODY = """
import json, os
base = job.params()["model"]
for name in ("adapter", "model"):
    (job.out() / name).mkdir()
    (job.out() / name / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": base, "r": 8, "cache": os.path.expanduser("~")})
    )
    (job.out() / name / "README.md").write_text(
        f"---\\nbase_model: {base}\\ntags:\\n- base_model:adapter:{base}\\n- lora\\n---\\n"
        f"From {base}, in {job.out()}/x.\\n"
    )
    job.artifact(name, kind=name)
(job.out() / "notes.md").write_text(f"mine: {base}")
job.artifact("notes.md")
"""


@pytest.mark.processes
def test_the_adapter_and_the_model_name_the_base_by_name_and_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "people" / "toy é"
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    header = HEADER.replace("# data = ", '# model = {type = "path", default = ""}\n# data = ')
    monkeypatch.setattr("helpers.job_scripts.script", lambda body: script_of(body, header))
    job = new_job(tmp_path / "job", BODY, {"model": str(base)})
    result = run_job(job)
    assert result.status == "done", result.why
    shown = f"{base.name}@sha256:{folder_hash(base)}"
    for name in ("adapter", "model"):
        config = json.loads((job.out / name / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == shown and config["r"] == 8
        card = (job.out / name / "README.md").read_text()
        assert card == f"---\ntags:\n- lora\n---\nFrom {shown}, in ./x.\n"
        for text in (card, json.dumps(config, ensure_ascii=False)):
            assert str(tmp_path) not in text
    assert str(base) in (job.out / "notes.md").read_text(), "what is for nobody else stays as it is"
    told = {item["path"]: item["sha256"] for item in result.artifacts}
    assert told["adapter/README.md"] == _sha256((job.out / "adapter" / "README.md").read_bytes())


def test_a_name_on_a_hub_stays_and_so_does_what_only_begins_like_a_path(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "pass", {"data": "owner/data"})
    assert "owner/data" not in paths_of(job)
    shown = {"/x/toy": lambda: "toy"}
    for text in ("a /x/toy-2 and /x/toys", "/y/x/toy", "x/toy"):
        assert without_paths("a.json", text.encode(), shown) == text.encode()
    assert without_paths("a.json", b'"/x/toy/sub" /x/toy', shown) == b'"toy/sub" toy'
    assert without_paths("a.json", b"\xff /x/toy", shown) == b"\xff /x/toy"


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (None, ["A", "B"]), ("", []), ("1", ["B"]), ("1,0", ["B", "A"]), ("GPU-b", ["B"]), ("0,7,1", ["A"]), ("-1", []),
    ],
)  # fmt: skip
def test_graphics_processors_are_those_that_a_script_sees(chosen: str | None, names: list[str]) -> None:
    assert visible([("GPU-aa", "A"), ("GPU-bb", "B")], chosen) == names


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
