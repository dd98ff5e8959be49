import pytest

from helpers.archives import ArchiveMaker, FakeArchive, make_archive


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> FakeArchive:
    """A finished run of eight rounds; tests copy it before they spoil it."""
    (texts := tmp_path_factory.mktemp("texts")).mkdir(exist_ok=True)
    return make_archive(tmp_path_factory.mktemp("published") / "home", texts)


@pytest.fixture
def archive(published: FakeArchive, tmp_path) -> FakeArchive:
    """A copy of the finished run, for one test."""
    return published.copy(tmp_path / "elsewhere" / "home")


@pytest.fixture(scope="module")
def spoiled(published: FakeArchive, tmp_path_factory: pytest.TempPathFactory) -> FakeArchive:
    """A copy of the finished run for a module whose tests put back what they change."""
    return published.copy(tmp_path_factory.mktemp("spoiled") / "home")


@pytest.fixture
def conspiracy(tmp_path) -> ArchiveMaker:
    """A run that was just opened, all of whose seats do what the test says."""
    (tmp_path / "texts").mkdir()
    return ArchiveMaker.opened(tmp_path / "home", tmp_path / "texts")
