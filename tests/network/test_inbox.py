import asyncio

from distrai.network.inbox import Inbox, InboxLimits
from distrai.protocol.primitives import Address

A, B, C = (Address(bytes([number]) * 20) for number in range(3))


async def drain(inbox: Inbox) -> list[tuple[Address | None, bytes]]:
    inbox.close()
    return [item async for item in inbox.messages()]


async def test_senders_take_turns() -> None:
    inbox = Inbox()
    for sender, text in ((A, b"1"), (A, b"2"), (A, b"3"), (B, b"4"), (None, b"5")):
        assert inbox.put(sender, text)
    assert len(inbox) == 5
    assert await drain(inbox) == [(A, b"1"), (B, b"4"), (None, b"5"), (A, b"2"), (A, b"3")]


async def test_a_flood_loses_its_own_messages_only() -> None:
    inbox = Inbox(InboxLimits(messages_max=10, sender_max=100))
    for number in range(50):
        inbox.put(A, bytes([number]))
    assert len(inbox) == 10 and inbox.dropped[A] == 40
    assert all(inbox.put(B, bytes([number])) for number in range(4))
    assert len(inbox) == 10 and inbox.dropped == {A: 44}
    got = await drain(inbox)
    assert [text for sender, text in got if sender == B] == [bytes([number]) for number in range(4)]
    assert [text for sender, text in got if sender == A] == [bytes([number]) for number in range(6)]


async def test_one_sender_and_all_bytes_are_bounded() -> None:
    inbox = Inbox(InboxLimits(bytes_max=100, sender_max=3))
    assert [inbox.put(A, b"x") for _ in range(5)] == [True] * 3 + [False] * 2
    assert not inbox.put(B, bytes(101))
    assert inbox.put(B, bytes(97))
    assert inbox.put(C, bytes(2))  # in place of two of those whose line is longest
    assert not inbox.put(C, bytes(2))
    assert dict(inbox.dropped) == {A: 4, B: 1, C: 1}


async def test_drops_of_too_many_senders_are_counted_together() -> None:
    inbox = Inbox(InboxLimits(messages_max=0, senders_told_max=2))
    for sender in (A, B, C, A):
        inbox.put(sender, b"x")
    assert dict(inbox.dropped) == {A: 2, B: 1, None: 1}


async def test_who_waits_is_woken_by_a_message_and_by_the_end() -> None:
    inbox = Inbox()
    messages = aiter(inbox.messages())
    waiting = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(0)
    inbox.put(A, b"now")
    assert await waiting == (A, b"now")
    ending = asyncio.ensure_future(anext(messages, None))
    await asyncio.sleep(0)
    inbox.close()
    assert await ending is None
    assert not inbox.put(A, b"late")
