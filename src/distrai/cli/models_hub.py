"""``distrai models push|pull``: finished models to and from the Hugging Face Hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from distrai.cli.jobs_record import LedgerOptions
from distrai.cli.output import tell
from distrai.cli.wallet import AnyWallet

if TYPE_CHECKING:
    from distrai.ledger.keys import NodeKey

Json = Annotated[bool, Parameter(negative=())]
Flag = Annotated[bool, Parameter(negative=())]


def push(
    name: str,
    repo: str,
    /,
    *,
    public: Flag = False,
    encrypt: Flag = False,
    token_file: Path | None = None,
    store: str = "",
    record: LedgerOptions | None = None,
    wallet: AnyWallet | None = None,
    json: Json = False,
) -> int:
    """Publish a model on the Hugging Face Hub, in one commit; private if you do not say otherwise.

    The token comes from --token-file, else $HF_TOKEN, else `hf auth login`. Best is one that may only write to this
    repository; on a rented machine no other is used. A training record that was kept open is told, and closed.

    Parameters
    ----------
    name
        A model, as `distrai models list` shows it, or a job's folder.
    repo
        OWNER/NAME on the hub; made if it is not there.
    public
        Let everybody see it.
    encrypt
        Push a copy that is encrypted to the key of the sender, and keep that beside the model.
    token_file
        A file whose first word is the token.
    store
        Where the model is, if it is not where models are.
    json
        Print one JSON object.
    """
    from distrai.jobs.hub.push import check_repo, push_model
    from distrai.jobs.hub.token import is_rented, need_token, refuse_token
    from distrai.jobs.models.naming import open_model
    from distrai.jobs.models.sealed import sealed_copy
    from distrai.jobs.models.text import push_text, told_of_push
    from distrai.jobs.records.after_push import tell_record

    refuse_token(name, repo)
    check_repo(repo)
    chosen, saved = open_model(name, store)
    token = need_token(token_file)
    ledger = (record or LedgerOptions()).chosen(wallet)
    if encrypt:
        saved = sealed_copy(chosen, saved, key_of_sender(saved.manifest.origin.address, wallet))
    done = push_model(chosen, saved, repo, token, public=public, rented=is_rented(), quiet=json)
    steps: list[str] = []
    note = tell_record(saved, done, ledger, lambda event: steps.append(str(event["stage"])))
    told = told_of_push(saved, done) | {"record": steps, "record_note": note}
    shown = [
        push_text(saved, done),
        *(f"  training record: {step}" for step in steps),
        *([f"  {note}"] if note else []),
    ]
    tell(told, "\n".join(shown), as_json=json)
    return 0


def pull(
    repo: str,
    /,
    *,
    revision: str = "main",
    expect: str = "",
    token_file: Path | None = None,
    store: str = "",
    json: Json = False,
) -> int:
    """Get a model from the Hugging Face Hub: no pickles, and each file compared with the model's manifest.

    Parameters
    ----------
    repo
        OWNER/NAME on the hub.
    revision
        A branch or commit.
    expect
        The hash that its manifest must have, as the training record on the ledger says.
    token_file
        A file whose first word is a token; public models need none.
    store
        Where to put it, if not where models are.
    json
        Print one JSON object.
    """
    from distrai.jobs.hub.pull import pull_model
    from distrai.jobs.hub.token import find_token, is_rented, refuse_token
    from distrai.jobs.models.store import ModelStore
    from distrai.jobs.models.text import pull_text, told_of_pull

    refuse_token(repo, revision)
    chosen = ModelStore.at(store)
    done = pull_model(
        chosen,
        repo,
        find_token(token_file),
        revision=revision,
        expected=expect,
        rented=is_rented(),
        quiet=json,
    )
    tell(told_of_pull(done), pull_text(done), as_json=json)
    return 0


def key_of_sender(address: str, wallet: AnyWallet | None) -> "NodeKey":
    """The key of the sender of a model."""
    from distrai.jobs.records.ledgers import key_of

    named = None if wallet is None else wallet.chosen().open
    return key_of(address, named, AnyWallet().chosen().open)
