# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.distrai]
# title = "Nothing yet: a script of your own"
# kind = "custom"
# [tool.distrai.parameters]
# steps = {type = "int", default = 100, min = 1, help = "how many steps to take"}
# note = {type = "str", default = "hello", help = "a text that goes into the result"}
# [tool.distrai.presets]
# smoke = {steps = 15}
# ///
"""A script of your own: it gets its parameters from the form, and tells what it does.

Packages go into `dependencies`; every parameter that is named above appears in the form.
"""

import json

import distrai_job as job


def main() -> None:
    """Take steps; put your training here."""
    p = job.params()
    job.status("working")
    for step in range(1, p["steps"] + 1):
        job.metric(loss=1 / step, step=step, total=p["steps"])
        if job.should_stop():
            job.log("asked to stop")
            break
    result = {"note": p["note"], "attempt": job.attempt()}
    (job.out() / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    job.artifact("result.json", kind="report")


if __name__ == "__main__":
    main()
