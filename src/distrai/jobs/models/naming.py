"""Which model is meant: by its name in a store, by a folder that has one in it, or by the job that made it."""

from pathlib import Path

from distrai.jobs.models.manifest import MANIFEST
from distrai.jobs.models.places import Place
from distrai.jobs.models.store import BadModelName, ModelStore, NoModel, Saved
from distrai.jobs.running.store import JobFolder, check_ours


def open_model(name: str, store: str = "") -> tuple[ModelStore, Saved]:
    """The model that somebody means, and the store that has it.

    Raises NoModel, BadModelName, BadManifest, StoreUnusable, or NoJob and OtherJob for a job's folder.
    """
    folder = Path(name)
    if (job := JobFolder(folder.absolute())).exists():
        return _of_job(job, store)
    if not store and (folder / MANIFEST).is_file():
        place = ModelStore(Place(str(folder.resolve().parent)))
        saved = place.get(folder.resolve().name)
        assert saved is not None
        return place, saved
    chosen = ModelStore.at(store)
    try:
        return chosen, chosen.find(name)
    except (NoModel, BadModelName):
        if store or not folder.is_dir():
            raise
        raise NoModel(
            f"{folder} has no {MANIFEST} in it, so there is nothing to compare its files with; "
            "`distrai models list` shows the models that there are"
        ) from None


def _of_job(job: JobFolder, store: str) -> tuple[ModelStore, Saved]:
    state = job.read()
    check_ours(job, state)
    if state.saved:
        place, owner, name = state.saved.rsplit("/", 2)
        chosen = ModelStore.at(store or place)
        return chosen, chosen.find(f"{owner}/{name}")
    if state.model:
        raise NoModel(
            f"the model of the job {state.job_id} was not saved with a manifest: it is in {job.out / state.model}"
        )
    raise NoModel(f"the job {state.job_id} ({state.status}) has made no model")
