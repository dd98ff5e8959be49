"""What passes a network interface, port by port: ``python -m helpers.sniffing INTERFACE`` until its input ends.

Says "ready", and at the end which TCP ports had TLS handshakes, and which had words of HTTP in plain sight.
"""

import json
import selectors
import socket
import sys

_ETH_P_ALL, _IPV4, _TCP = 3, 0x0800, 6


def payload(frame: bytes) -> tuple[int, int, bytes]:
    """Both ports and what a TCP segment carries; nothing for everything else."""
    if int.from_bytes(frame[12:14], "big") != _IPV4 or frame[23] != _TCP:
        return 0, 0, b""
    segment = frame[14 + 4 * (frame[14] & 15) : 14 + int.from_bytes(frame[16:18], "big")]
    source, target = (int.from_bytes(segment[at : at + 2], "big") for at in (0, 2))
    return source, target, segment[4 * (segment[12] >> 4) :]


def main(interface: str) -> None:
    tls, plain = set(), set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        wire.bind((interface, 0))
        print(json.dumps("ready"), flush=True)
        with selectors.DefaultSelector() as selector:
            for each in (wire, sys.stdin):
                selector.register(each, selectors.EVENT_READ)
            while sys.stdin not in [key.fileobj for key, _ in selector.select()]:
                source, target, data = payload(wire.recv(1 << 16))
                if data[:2] == b"\x16\x03":
                    tls |= {source, target}
                if b"HTTP/1." in data or b"Host:" in data:
                    plain |= {source, target}
    print(json.dumps({"tls": sorted(tls), "plain": sorted(plain)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
