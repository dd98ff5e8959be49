"""Verifying a run's folder: a replay from genesis to the head on the ledger, or to one that the caller trusts."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distrai.peer.learner import read_manifest
from distrai.protocol.primitives import Hash
from distrai.protocol.recipe import ResolvedRecipe
from distrai.runs.anchor import NoLedger, deployment_of, ledger_state, pot_events, roll_calls_until
from distrai.runs.archive import Archive
from distrai.runs.folder import NoRun, RunFolder
from distrai.runs.payouts import Payouts, PotBooks, recompute_payouts
from distrai.runs.published import Anchor, ReplayFailed, blaming
from distrai.runs.replay import Replay, Replayed
from distrai.runs.reward_tables import Tables
from distrai.training.data.dataset import check_layout
from distrai.training.data.documents import SPLITS
from distrai.training.data.manifest import parse_manifest

OnRound = Callable[[int, int], None]
"""Takes a round that was replayed, and how many updates it had."""


class BadHead(ValueError):
    """What was given as a head is none."""


@dataclass(frozen=True)
class Verdict:
    """What came of a replay: where it arrived, or what is wrong."""

    replayed: Replayed | None = None
    failure: ReplayFailed | None = None
    payouts: Payouts | None = None
    """None where the run pays nothing, or its ledger is not there."""

    @property
    def ok(self) -> bool:
        """Whether the published bytes are the run."""
        return self.failure is None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        if self.replayed is None:
            assert self.failure is not None
            failure = self.failure
            told = {"culprit": failure.culprit, "rule": failure.rule, "why": failure.why}
            return {"ok": False, **told, "round": failure.round}
        done, paid = self.replayed, {} if self.payouts is None else self.payouts.to_json()
        return {
            "ok": True,
            "state_root": "0x" + done.state_root.hex(),
            "head": "0x" + done.head.hex(),
            "rounds": done.rounds,
            "updates": done.updates,
            **paid,
        }


def verify(folder: RunFolder, head: str | None, on_round: OnRound) -> Verdict:
    """Replay the run in ``folder`` to ``head`` (0x and 64 digits), or to the head on the folder's ledger.

    Raises NoRun if there is no run at all, and BadHead; everything else that is wrong is the verdict.
    """
    if not folder.archive.is_dir():
        raise NoRun(f"{folder.path} holds no run: give the folder that `distrai run` printed")
    trusted = None if head is None else parse_head(head)
    try:
        anchor = Anchor(trusted) if trusted is not None else _anchor(folder)
        archive = Archive(folder.archive)
        replayed = Replay(archive.public, archive.blobs, on_round).run(anchor)
        _check_data(archive)
        payouts = _payouts(folder, archive, replayed, is_ledger_needed=trusted is None)
    except ReplayFailed as failure:
        return Verdict(failure=failure)
    return Verdict(replayed, payouts=payouts)


def _payouts(
    folder: RunFolder, archive: Archive, replayed: Replayed, *, is_ledger_needed: bool
) -> Payouts | None:
    """What members earned; None for a run that pays nothing, or where a head is trusted and no ledger is there.

    Raises ReplayFailed.
    """
    if _recipe(archive).contracts is None:
        return None
    try:
        with blaming("contracts", 0):
            deployment = deployment_of(folder)
            assert deployment is not None, "the recipe names them"
            found = asyncio.run(pot_events(folder, deployment))
    except ReplayFailed:
        if is_ledger_needed:
            raise
        return None
    books = PotBooks(found, archive.genesis().genesis.head)
    return recompute_payouts(replayed, books, Tables.of_folder(folder))


def parse_head(text: str) -> Hash:
    """A head as people write it. Raises BadHead."""
    digits = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{64})", text.strip())
    if digits is None:
        raise BadHead(
            f"{text[:80]!r} is no head: give 0x and 64 hexadecimal digits, as in summary.json or on the ledger"
        )
    return Hash(bytes.fromhex(digits[1]))


def _anchor(folder: RunFolder) -> Anchor:
    """The head on the ledger, how many rounds lead to it and which were roll calls. Raises ReplayFailed."""
    with blaming("run.json", 0):
        folder.link()
    with blaming("ledger", 0):
        try:
            state = asyncio.run(ledger_state(folder))
            roll_calls = asyncio.run(roll_calls_until(folder, state.round))
        except NoLedger:
            raise
        except Exception as error:  # whatever the chain's code trips over in a damaged file
            raise NoLedger(f"{folder.ledger} cannot be read: {error!r}; restore the folder") from error
        if not state.started:
            raise NoLedger("the run was opened, but never started: there is nothing to replay")
    return Anchor(state.head, state.round, roll_calls)


def _check_data(archive: Archive) -> None:
    """That what was trained on is there too: whoever wants to repeat the training needs it. Raises ReplayFailed."""
    resolved = _recipe(archive)
    with blaming("tokenizer", 0):
        archive.blob(resolved.tokenizer_hash, "the tokenizer")
    with blaming("corpus manifest", 0):
        manifest = parse_manifest(archive.blob(resolved.corpus.hash, "the corpus manifest"))
    with blaming("corpus manifest", 0):
        check_layout(manifest, resolved.recipe.data)
    for what, frozen in (("base", resolved.base), ("teacher", resolved.teacher)):
        if frozen is not None:
            with blaming(f"{what} that training reads", 0):
                for part in read_manifest(archive.blobs, frozen).blobs():
                    archive.blobs.read(part)
    for split in SPLITS:
        for number, shard in enumerate(manifest.shards(split)):
            with blaming(f"data shard {number} of {split}", 0):
                archive.blobs.read(shard.blob)


def _recipe(archive: Archive) -> ResolvedRecipe:
    with blaming("recipe", 0):
        return archive.recipe(archive.genesis().genesis.recipe_hash)
