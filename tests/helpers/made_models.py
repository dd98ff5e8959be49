"""A model of a job that was made: who it is by, and what its manifest says of where it is from."""

from distrai.jobs.models.manifest import Origin

ADDRESS = "0x" + "ab" * 20
NAME = f"{ADDRESS}/first"
ORIGIN = Origin(kind="sft-qlora", base_model="toy", address=ADDRESS, job="first", record=7)
