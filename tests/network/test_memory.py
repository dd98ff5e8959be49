"""Memory is O(chunk), not O(blob): measured in processes of their own, by the kernel's high-water mark."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc"),
]

MIB = 128
A_FEW_CHUNKS_MIB = 24


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "helpers.memory", *arguments]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_large_blob_is_served_and_fetched_within_a_few_chunks(tmp_path: Path) -> None:
    with start("serve", str(tmp_path), str(MIB)) as server:
        where = json.loads(server.stdout.readline())
        with start("fetch", str(tmp_path), str(MIB), where["url"], where["hash"]) as client:
            fetched = json.loads(client.communicate(timeout=300)[0])
        served = json.loads(server.communicate(timeout=300)[0])
    assert fetched["size"] == MIB << 20
    assert fetched["grew_mib"] < A_FEW_CHUNKS_MIB
    assert served["grew_mib"] < A_FEW_CHUNKS_MIB


def test_sealing_needs_no_second_copy_and_opening_one(tmp_path: Path) -> None:
    with start("open", str(tmp_path), str(MIB)) as process:
        grew = json.loads(process.communicate(timeout=300)[0])
    assert grew["sealed_mib"] < A_FEW_CHUNKS_MIB
    assert grew["opened_mib"] < MIB + A_FEW_CHUNKS_MIB
