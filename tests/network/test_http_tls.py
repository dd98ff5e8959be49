"""TLS between peers: what certifies a certificate, who may be in the middle, and what stays on this machine."""

import asyncio
import ssl
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from distrai.network.http import BadAddress, TlsKey
from distrai.network.http.addresses import url_to_tell
from distrai.network.interface import FetchFailed, SendFailed
from distrai.protocol.blobs import CHUNK_SIZE, blob_ref

DATA = bytes(3 * CHUNK_SIZE)


@pytest.fixture
def tls() -> bool:
    return True


class Middle:
    """Somebody on the way who has a certificate of its own, and passes on whatever is said in either direction."""

    def __init__(self, port: int) -> None:
        self.port, self.key = port, TlsKey.generate()
        self.heard = b""
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        context = self.key.server_context()
        self.server = await asyncio.start_server(self.called, "127.0.0.1", 0, ssl=context)
        self.url = f"https://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def called(self, reader, writer) -> None:
        self._tasks.add(asyncio.current_task())
        anything = ssl.create_default_context()
        anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
        there, back = await asyncio.open_connection("127.0.0.1", self.port, ssl=anything)
        try:
            await asyncio.gather(self.pass_on(reader, back), self.pass_on(there, writer))
        finally:
            for end in (back, writer):
                end.transport.abort()

    async def pass_on(self, source, sink) -> None:
        while data := await source.read(1 << 16):
            self.heard += data
            sink.write(data)
            await sink.drain()
        sink.close()


async def test_who_is_in_the_middle_learns_and_changes_nothing(make_peer) -> None:
    """It may pass the challenge on: the answer names the true certificate, and nothing is said to another one."""
    one, two = await make_peer(), await make_peer()
    two.store.put(DATA)
    async with Middle(two.port) as middle:
        between = replace(two.unpinned, urls=(middle.url,))
        with pytest.raises(SendFailed, match="not certified"):
            await one.transport.send(between, b"for two only")
        assert b"/challenge" in middle.heard and b"200 OK" in middle.heard
        with pytest.raises(FetchFailed, match="not certified"):
            await one.transport.fetch(blob_ref(DATA), [between], 5)
        assert b"/message" not in middle.heard and b"/blob" not in middle.heard
        assert one.transport.liars == {}


async def test_who_answers_the_challenge_itself_is_another_node(make_peer) -> None:
    one, two, other = [await make_peer() for _ in range(3)]
    with pytest.raises(SendFailed, match="another node"):
        await one.transport.send(replace(two.unpinned, urls=other.endpoint.urls), b"for two only")
    assert len(other.transport.inbox) == 0


async def test_with_its_record_at_hand_nothing_at_all_is_said_to_another_certificate(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    async with Middle(two.port) as middle:
        with pytest.raises(SendFailed, match="not certified"):
            await one.transport.send(two.at(middle.url), b"for two only")
        assert middle.heard == b""
    with pytest.raises(SendFailed, match="not certified"):
        await one.transport.send(replace(two.endpoint, fingerprint=bytes(32)), b"for two only")
    await one.transport.send(two.endpoint, b"good")
    await one.transport.send(two.unpinned, b"good")


async def test_a_record_of_another_certificate_than_is_signed_in_the_challenge_is_refused(make_peer) -> None:
    """A proxy before a peer that shows the certificate of the record, while the node speaks for another one."""
    one, two = await make_peer(), await make_peer()
    async with Middle(two.port) as middle:
        there = replace(two.endpoint, urls=(middle.url,), fingerprint=middle.key.fingerprint)
        with pytest.raises(SendFailed, match="another certificate"):
            await one.transport.send(there, b"for two only")
        assert b"/message" not in middle.heard


async def test_a_new_certificate_at_a_known_url_is_certified_anew(make_peer, tmp_path: Path) -> None:
    one, two = await make_peer(), await make_peer()
    await one.transport.send(two.unpinned, b"first")
    port, server = two.port, two.transport.server
    await server.close()
    server.tls = TlsKey.generate()
    assert await server.start("127.0.0.1", port) == port
    with pytest.raises(SendFailed, match="not certified"):
        await one.transport.send(two.unpinned, b"lost with the connection")
    await one.transport.send(two.unpinned, b"second")
    assert len(two.transport.inbox) == 2


async def test_tls_and_plain_http_do_not_take_each_other_s_proofs(make_peer) -> None:
    plain, secret, one = await make_peer(tls=False), await make_peer(), await make_peer()
    for there in (
        secret.at(f"http://127.0.0.1:{secret.port}"),
        plain.at(f"https://127.0.0.1:{plain.port}"),
    ):
        with pytest.raises(SendFailed):
            await one.transport.send(there, b"hello")
    await one.transport.send(plain.endpoint, b"hello")
    await plain.transport.send(secret.endpoint, b"hello")


async def test_old_tls_is_refused(make_peer) -> None:
    peer = await make_peer()
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", peer.port, ssl=old)


async def test_plain_http_goes_to_no_other_machine(make_peer) -> None:
    """192.0.2.1 is nobody's: it is refused before anything is sent."""
    one, two = await make_peer(), await make_peer()
    for host in ("192.0.2.1", "[::ffff:192.0.2.1]"):
        with pytest.raises(SendFailed, match="only https"):
            await one.transport.send(two.at(f"http://{host}:1"), b"hello")
    assert one.transport.counters.total("up") == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "peer.example", ""])
async def test_without_tls_a_peer_listens_on_loopback_alone(make_peer, host: str) -> None:
    with pytest.raises(BadAddress):
        await make_peer(tls=False, host=host)


async def test_all_addresses_are_no_address_for_others(make_peer) -> None:
    with pytest.raises(BadAddress, match="--advertise"):
        await make_peer(host="0.0.0.0")
    peer = await make_peer(host="0.0.0.0", advertise="127.0.0.1")
    assert peer.endpoint.urls == (f"https://127.0.0.1:{peer.port}",)
    await (await make_peer()).transport.send(peer.endpoint, b"hello")


@pytest.mark.parametrize(
    ("advertise", "url"),
    [
        ("", "https://10.0.0.1:5"),
        ("192.0.2.7", "https://192.0.2.7:5"),
        ("2001:db8::7", "https://[2001:db8::7]:5"),
        ("[2001:db8::7]:9", "https://[2001:db8::7]:9"),
        ("peer.example", "https://peer.example:5"),
        ("peer.example:9", "https://peer.example:9"),
        ("https://peer.example:9/", "https://peer.example:9"),
    ],
)
def test_what_others_are_told(advertise: str, url: str) -> None:
    assert url_to_tell("10.0.0.1", 5, advertise, tls=True) == url


@pytest.mark.parametrize(
    "advertise",
    ["0.0.0.0", "[::]:5", "http://peer.example:1", "https://u:p@h:1", "https://h:1/x", "a b", "h:x"],
)
def test_what_others_cannot_be_told(advertise: str) -> None:
    with pytest.raises(BadAddress):
        url_to_tell("10.0.0.1", 5, advertise, tls=True)


def test_a_key_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tls.pem"
    made = TlsKey.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert TlsKey.open(path) == made
    assert b"PRIVATE" not in repr(made).encode()
    path.chmod(0o644)  # others may have read it
    second = TlsKey.open(path)
    assert second.fingerprint != made.fingerprint and stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(second.pem[:200])
    assert TlsKey.open(path).fingerprint != second.fingerprint
    halves = [key.pem.partition(b"-----BEGIN CERT") for key in (made, second)]
    path.write_bytes(halves[0][0] + halves[1][1] + halves[1][2])
    assert TlsKey.open(path).fingerprint not in (made.fingerprint, second.fingerprint)


async def test_a_connection_is_used_again(make_peer) -> None:
    """A handshake for each message would cost more than the message."""
    one, two = await make_peer(), await make_peer()
    for _ in range(10):
        await one.transport.send(two.endpoint, b"hello")
    assert two.transport.server._listener.open_count == 1
    for _ in range(10):
        await one.transport.send(two.unpinned, b"hello")
    assert two.transport.server._listener.open_count <= 3
