import pytest

from distrai.network.holders import Busy
from distrai.network.uploads import UploadLimits, Uploads
from distrai.protocol.primitives import Hash

OWN, OTHERS = Hash(b"o" * 32), Hash(b"r" * 32)
LIMITS = UploadLimits(at_once=3, fresh_s=10.0, hold_s=0.5)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def uploads(clock: Clock) -> Uploads:
    return Uploads(LIMITS, clock)


def send(uploads: Uploads, blob: Hash, index: int, *, polite: bool = True):
    return uploads.sending(blob, index, polite=polite, relayed=blob == OTHERS)


def refused(uploads: Uploads, blob: Hash, index: int) -> bool:
    try:
        with send(uploads, blob, index):
            return False
    except Busy:
        return True


def test_while_a_fresh_chunk_leaves_only_other_fresh_ones_do(uploads: Uploads, clock: Clock) -> None:
    with send(uploads, OWN, 0):
        pass
    clock.now += 1
    with send(uploads, OWN, 1):
        assert refused(uploads, OWN, 0), "has left before"
        assert refused(uploads, OWN, 1), "is leaving: who gets it passes it on"
        assert refused(uploads, OTHERS, 0), "somebody else has it"
        assert not refused(uploads, OWN, 2)
    assert refused(uploads, OTHERS, 0), "the next fresh one may be about to come"
    clock.now += LIMITS.hold_s
    assert not refused(uploads, OWN, 0) and not refused(uploads, OTHERS, 0)


def test_a_plain_request_is_served_whatever_else_leaves(uploads: Uploads) -> None:
    with send(uploads, OWN, 1), send(uploads, OWN, 1, polite=False), send(uploads, OTHERS, 1, polite=False):
        pass


def test_who_takes_a_fresh_chunk_slowly_holds_up_nobody(uploads: Uploads, clock: Clock) -> None:
    with send(uploads, OWN, 1):
        assert refused(uploads, OTHERS, 0)
        clock.now += LIMITS.fresh_s
        assert not refused(uploads, OTHERS, 0) and not refused(uploads, OWN, 1)


def test_what_did_not_leave_whole_is_still_fresh(uploads: Uploads, clock: Clock) -> None:
    with pytest.raises(ConnectionError), send(uploads, OWN, 1):
        raise ConnectionError
    clock.now += 1
    with send(uploads, OWN, 2):
        assert not refused(uploads, OWN, 1)


def test_chunks_in_memory_are_bounded(uploads: Uploads) -> None:
    going = (send(uploads, OWN, 0), send(uploads, OWN, 1), send(uploads, OWN, 2))
    with going[0], going[1], going[2], pytest.raises(Busy), send(uploads, OWN, 3, polite=False):
        pass
    with send(uploads, OWN, 3, polite=False):
        pass
