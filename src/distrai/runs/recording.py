"""The training record of a run: who asked for it, what on, how far it came, and what came of it.

What the ledger cannot know (hardware, price, seconds) are claims of whoever opened the run, and are shown as such.
"""

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.ledger.training_records import Record, Request, Result, Stage
from distrai.network.store import BlobStore
from distrai.protocol.blobs import CHUNK_SIZE, chunk_hash, manifest_hash
from distrai.protocol.canonical import canonical_json
from distrai.protocol.ledger_events import Started
from distrai.protocol.money_events import RecordOpened
from distrai.protocol.primitives import ZERO_HASH, Hash
from distrai.protocol.recipe import ResolvedRecipe
from distrai.runs.folder import RunFolder
from distrai.runs.logs import PeerLog
from distrai.runs.tills import Tills
from distrai.runs.timing import Timing

Report = Callable[[dict[str, Any]], None]
PROVIDER = "own machine"
TEXT_BYTES, MODEL_BYTES, PARAMETERS_BYTES = 64, 96, 1024
"""What the contract keeps of a text, of the model's name, of the hyper-parameters."""
_KEY_TRAINING = ("batch", "accumulation", "lr", "schedule", "weight_decay", "precision")
_KEY_ALGORITHM = (
    "codec",
    "aggregate",
    "outer",
    "outer_lr",
    "outer_momentum",
    "inner_optimiser",
    "inner_steps",
)


@dataclass(frozen=True)
class Recording:
    """The record of one run, kept by its opener. Every step is taken once, whoever begins it again."""

    tills: Tills
    device: str
    report: Report

    async def open(self) -> None:
        """Ask for the training on the ledger, unless that was done."""
        if await self.record() is None:
            number = await self.tills.records.open(self._request())
            self.report({"event": "record-opened", "record": number})

    async def started(self) -> None:
        """The first head is the evidence."""
        events = await self.tills.events((Started,))
        await self._reach(Stage.STARTED, Hash(events[-1].head) if events else ZERO_HASH)

    async def trained(self) -> None:
        """The head of the last round is the evidence."""
        await self._reach(Stage.TRAINED, (await self._state()).head)

    async def close(self, result: Result) -> None:
        """The model is saved and published: the last state root and the manifest are the evidence. Then the end."""
        record = await self.record()
        if record is None or record.stage is Stage.CLOSED:
            return
        await self._reach(Stage.TRAINED, (await self._state()).head)
        await self._reach(Stage.SAVED, (await self._state()).state_root)
        await self._reach(Stage.PUBLISHED, result.manifest)
        await self.tills.records.close_record(record.number, result)
        self.report({"event": "record-closed", "record": record.number})

    async def record(self) -> Record | None:
        """The opener's newest record of this run."""
        mine = [
            event.record
            for event in await self.tills.events((RecordOpened,))
            if event.sender == self.tills.owner.address
        ]
        return await self.tills.records.get(mine[-1]) if mine else None

    async def _state(self) -> Any:
        return await self.tills.registry.run_state(self.tills.run)

    async def _reach(self, stage: Stage, evidence: Hash) -> None:
        record = await self.record()
        if record is not None and record.stage < stage:
            await self.tills.records.reach(record.number, stage, evidence)
            self.report({"event": "stage", "record": record.number, "stage": stage.name.lower()})

    def _request(self) -> Request:
        resolved = self.tills.resolved
        recipe = resolved.recipe
        return Request(
            run=self.tills.run,
            source=resolved.blob.hash,
            price_per_hour=0,
            parameter_count=sum(math.prod(shape) for _, shape in resolved.layout),
            gpu=_cut(hardware(self.device), TEXT_BYTES),
            provider=PROVIDER,
            model=_cut(model_name(resolved), MODEL_BYTES),
            theme=_cut(recipe.theme or recipe.name, TEXT_BYTES),
            parameters=key_parameters(resolved),
        )


def model_name(resolved: ResolvedRecipe) -> str:
    """What is trained, in a few words."""
    model = resolved.recipe.model
    if model.source == "pretrained":
        return f"{Path(model.path).name}{f'@{model.revision}' if model.revision else ''}"
    return f"{model.config.get('model_type', 'model')}, new"


def key_parameters(resolved: ResolvedRecipe) -> str:
    """The key hyper-parameters as canonical JSON, in as many bytes as a record keeps."""
    recipe, algorithm = resolved.recipe, resolved.algorithm
    chosen: dict[str, object] = {
        "preset": recipe.algorithm.preset,
        "rounds": recipe.rounds.count,
        "peers": recipe.membership.peers,
        "context": recipe.data.context,
        "seed": recipe.seed,
    }
    chosen |= {key: getattr(recipe.training, key) for key in _KEY_TRAINING}
    chosen |= {key: algorithm[key] for key in _KEY_ALGORITHM if key in algorithm}
    if (adapter := recipe.model.adapter) is not None:
        chosen["adapter"] = [adapter.kind, adapter.r, adapter.alpha, adapter.quant]
    if recipe.training.objective != "next-token":
        chosen["objective"] = recipe.training.objective
    text = canonical_json(chosen).decode()
    assert len(text.encode()) <= PARAMETERS_BYTES, "names and numbers"
    return text


def hardware(device: str) -> str:
    """The processor that this machine trains on, as it calls itself."""
    import torch

    from distrai.training.device import training_device

    chosen = training_device(device)
    if chosen.type == "cuda":
        return str(torch.cuda.get_device_name(chosen))
    return f"no GPU; CPU {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _cut(text: str, size: int) -> str:
    """As much of a text as there is room for, in whole characters."""
    return text.encode()[:size].decode(errors="ignore")


def result_of(folder: RunFolder, logs: Sequence[PeerLog], rounds: int, manifest: Hash) -> Result:
    """What came of a run: seconds as its peers' logs have them; the table of each peer goes into the archive."""
    rows = [
        {
            "member": log.member.hex() if log.member else "",
            "seconds": round(sum(item.seconds for item in log.trained.values())),
            "steps": sum(item.steps for item in log.trained.values()),
            "tokens": sum(item.tokens for item in log.trained.values()),
        }
        for log in logs
    ]
    rows.sort(key=lambda row: str(row["member"]))
    table = BlobStore(folder.archive / "blobs").put(canonical_json({"peers": rows})).hash
    seconds = round(sum(Timing(logs, rounds).durations()))
    return Result(manifest, table, seconds, sum(int(str(row["seconds"])) for row in rows), len(rows))


def publish_manifest(folder: RunFolder) -> Hash:
    """Name every file of the exported model; the list goes into the run's folder and into its archive."""
    blobs = BlobStore(folder.archive / "blobs")
    files = {}
    for path in sorted(item for item in folder.model.rglob("*") if item.is_file()):
        name = file_hash(path)
        files[path.relative_to(folder.model).as_posix()] = {
            "hash": "0x" + name.hex(),
            "size": path.stat().st_size,
        }
    data = canonical_json({"files": files})
    folder.manifest.write_bytes(data)
    return blobs.put(data).hash


def file_hash(path: Path) -> Hash:
    """The name that the file's bytes have as a blob; a chunk at a time."""
    hashes, size = [], 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_SIZE):
            hashes.append(chunk_hash(chunk))
            size += len(chunk)
    return manifest_hash(size, hashes)
