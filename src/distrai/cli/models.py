"""``distrai models``: finished models, where they are kept, published and checked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from distrai.cli.jobs_record import LedgerOptions
from distrai.cli.output import tell
from distrai.cli.wallet import AnyWallet

if TYPE_CHECKING:
    from distrai.ledger.keys import NodeKey

Json = Annotated[bool, Parameter(negative=())]
Flag = Annotated[bool, Parameter(negative=())]

models = App(name="models", help="Finished models: kept, published, fetched, checked, asked.")


@models.command(name="list")
def list_(*, store: str = "", json: Json = False) -> int:
    """List the models of this machine, or of another place.

    Parameters
    ----------
    store
        A folder or URL (s3://bucket/models); $DISTRAI_MODELS, or distrai/models in your folder of data.
    json
        Print one JSON object.
    """
    from distrai.jobs.models import ModelStore
    from distrai.jobs.models_text import list_text, told_of

    chosen = ModelStore.at(store)
    found, broken = chosen.all(), chosen.broken()
    told = {
        "ok": not broken,
        "store": chosen.place.url,
        "models": [told_of(saved) for saved in found],
        "broken": broken,
    }
    tell(told, list_text(chosen, found, broken), as_json=json)
    return 1 if broken else 0


@models.command
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
        A model, as `distrai models list` shows it.
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
    from distrai.jobs.after_push import tell_record
    from distrai.jobs.hub import check_repo, push_model
    from distrai.jobs.hub_token import is_rented, need_token, refuse_token
    from distrai.jobs.models import ModelStore
    from distrai.jobs.models_text import push_text, told_of_push
    from distrai.jobs.sealed_models import sealed_copy

    refuse_token(name, repo)
    check_repo(repo)
    chosen = ModelStore.at(store)
    saved, token = chosen.find(name), need_token(token_file)
    ledger = (record or LedgerOptions()).chosen(wallet)
    if encrypt:
        saved = sealed_copy(chosen, saved, _key(saved.manifest.origin.address, wallet))
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


@models.command
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
    """Get a model from the Hugging Face Hub: data only, each file compared with the model's manifest.

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
    from distrai.jobs.hub_pull import pull_model
    from distrai.jobs.hub_token import find_token, is_rented, refuse_token
    from distrai.jobs.models import ModelStore
    from distrai.jobs.models_text import pull_text, told_of_pull

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


@models.command
def verify(
    name: str,
    /,
    *,
    expect: str = "",
    record: int = 0,
    rpc: str = "",
    deployment: Path | None = None,
    store: str = "",
    json: Json = False,
) -> int:
    """Compare every file of a model with its manifest, and the manifest with what the ledger says.

    Parameters
    ----------
    name
        A model, as `distrai models list` shows it, or a folder with a model in it.
    expect
        The hash that its manifest must have.
    record
        The training record that it must be the model of; the one that it names itself, if not given.
    rpc
        The address of a node of the record's chain; your own ledger, if it is that one, needs none.
    deployment
        The file with the addresses of that chain's contracts, as `distrai ledger deploy` wrote it.
    store
        Where the model is, if it is not where models are.
    json
        Print one JSON object.
    """
    from distrai.jobs.models_text import verify_text
    from distrai.jobs.verifying import verify_model

    told = verify_model(name, store, expect, record, rpc, deployment)
    tell(told, verify_text(told), as_json=json)
    return 0 if told["ok"] else 1


@models.command
def generate(
    name: str,
    text: str,
    /,
    *,
    tokens: int = 200,
    temperature: float = 0.8,
    seed: int = 0,
    chat: Flag = False,
    device: str = "cpu",
    store: str = "",
    json: Json = False,
) -> int:
    """Let a model go on from a text, or answer it.

    Parameters
    ----------
    name
        A model, as `distrai models list` shows it.
    text
        What to go on from.
    tokens
        How many tokens to write at most.
    temperature
        0 always takes the likeliest token; 1 draws as the model says.
    seed
        Another seed writes another text.
    chat
        Ask it as a user does, with the model's chat template.
    device
        cpu or cuda.
    store
        Where the model is, if it is not where models are.
    json
        Print one JSON object.
    """
    from distrai.jobs.generating import Sampling, write_text
    from distrai.jobs.models import ModelStore
    from distrai.jobs.sealed_models import check_opened
    from distrai.runs.telling import printable

    sampling = Sampling(tokens=tokens, temperature=temperature, seed=seed, chat=chat, device=device)
    chosen = ModelStore.at(store)
    saved = chosen.find(name)
    check_opened(saved)
    with chosen.opened(saved) as folder:
        written = write_text(folder, text, sampling)
    shown = printable(written if chat else text + written)
    tell({"ok": True, "name": saved.name, "prompt": text, "text": written}, shown, as_json=json)
    return 0


@models.command
def decrypt(
    name: str,
    /,
    *,
    out: Path | None = None,
    store: str = "",
    wallet: AnyWallet | None = None,
    json: Json = False,
) -> int:
    """Open a model that is encrypted to you: it is compared with the manifest within, and kept beside the other one.

    Parameters
    ----------
    name
        A model, as `distrai models list` shows it.
    out
        A new folder to put it into, instead of the place of models.
    store
        Where the model is, if it is not where models are.
    json
        Print one JSON object.
    """
    from distrai.jobs.models import ModelStore
    from distrai.jobs.models_text import told_of
    from distrai.jobs.sealed_models import NotSealed, decrypt_model

    chosen = ModelStore.at(store)
    saved = chosen.find(name)
    if not saved.manifest.origin.sealed:
        raise NotSealed(f"{saved.name} is not encrypted: it can be used as it is")
    opened = decrypt_model(chosen, saved, _key(saved.manifest.origin.address, wallet), out)
    text = f"{opened.name} is in {opened.location}\n  manifest {opened.manifest.hash}"
    tell({"ok": True, **told_of(opened)}, text, as_json=json)
    return 0


def _key(address: str, wallet: AnyWallet | None) -> "NodeKey":
    """The key of the sender of a model."""
    from distrai.jobs.ledgers import key_of

    named = None if wallet is None else wallet.chosen().open
    return key_of(address, named, AnyWallet().chosen().open)
