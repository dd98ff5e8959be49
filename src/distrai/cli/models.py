"""``distrai models``: finished models, where they are kept, published and checked."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from distrai.cli.models_hub import key_of_sender, pull, push
from distrai.cli.output import tell
from distrai.cli.wallet import AnyWallet

Json = Annotated[bool, Parameter(negative=())]
Flag = Annotated[bool, Parameter(negative=())]

models = App(name="models", help="Finished models: kept, published, fetched, checked, asked.")
models.command(push)
models.command(pull)


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
    from distrai.jobs.models.store import ModelStore
    from distrai.jobs.models.text import list_text, told_of

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
        A model, as `distrai models list` shows it, or a folder: a job's, or one with a model in it.
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
    from distrai.jobs.models.text import verify_text
    from distrai.jobs.models.verifying import verify_model

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
        A model, as `distrai models list` shows it, or a job's folder.
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
    from distrai.jobs.models.generating import Sampling, write_text
    from distrai.jobs.models.naming import open_model
    from distrai.jobs.models.sealed import check_opened
    from distrai.runs.telling import printable

    sampling = Sampling(tokens=tokens, temperature=temperature, seed=seed, chat=chat, device=device)
    chosen, saved = open_model(name, store)
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
        A model, as `distrai models list` shows it, or a job's folder.
    out
        A new folder to put it into, instead of the place of models.
    store
        Where the model is, if it is not where models are.
    json
        Print one JSON object.
    """
    from distrai.jobs.models.naming import open_model
    from distrai.jobs.models.sealed import NotSealed, decrypt_model
    from distrai.jobs.models.text import told_of

    chosen, saved = open_model(name, store)
    if not saved.manifest.origin.sealed:
        raise NotSealed(f"{saved.name} is not encrypted: it can be used as it is")
    opened = decrypt_model(chosen, saved, key_of_sender(saved.manifest.origin.address, wallet), out)
    text = f"{opened.name} is in {opened.location}\n  manifest {opened.manifest.hash}"
    tell({"ok": True, **told_of(opened)}, text, as_json=json)
    return 0
