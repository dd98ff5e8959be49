"""What a script sees of this machine: few variables of the environment, a home of its own, and no keys.

A script is arbitrary code that runs as this user. This keeps tokens and passwords from it that nobody meant to hand
on (variables, files that libraries look for in the home folder); it is no sandbox: it does not hide files.
"""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

_PLAIN = {
    "LANG",
    "LANGUAGE",
    "TZ",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_XET",
    "HF_HUB_DISABLE_TELEMETRY",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
}
_ADDRESSES = {"HF_ENDPOINT", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
"""Passed on unless there is a password in them."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class BadVariable(ValueError):
    """A variable that cannot be passed on; the message says why."""


def script_environment(
    home: Path, own: Mapping[str, str], passed: Collection[str], ours: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables of a script: ``own`` (the job's), a few of ``ours``, and the ``passed`` ones by name."""
    ours = os.environ if ours is None else ours
    kept = {name: value for name, value in ours.items() if name in _PLAIN or name.startswith("LC_")}
    kept |= {name: ours[name] for name in _ADDRESSES if name in ours and "@" not in ours[name]}
    cache = Path(ours.get("HF_HOME") or Path(ours.get("HOME") or "~").expanduser() / ".cache" / "huggingface")
    shared = {
        "PATH": ours.get("PATH", _PATH),
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "HF_HUB_CACHE": ours.get("HF_HUB_CACHE") or str(cache / "hub"),
        "HF_DATASETS_CACHE": ours.get("HF_DATASETS_CACHE") or str(cache / "datasets"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    return kept | shared | {name: ours[name] for name in check_passed(passed, ours)} | dict(own)


def check_passed(names: Collection[str], ours: Mapping[str, str] | None = None) -> list[str]:
    """Names of variables that are to be passed on. Raises BadVariable."""
    ours = os.environ if ours is None else ours
    for name in names:
        if not _NAME.fullmatch(name):
            raise BadVariable(
                "--env takes the name of a variable, without its value: the value is taken from here"
            )
        if name.startswith("DISTRAI_"):
            raise BadVariable(f"--env {name}: what begins with DISTRAI_ is not passed on")
        if name not in ours:
            raise BadVariable(f"--env {name}: there is no such variable here; set it first")
    return sorted(set(names))
