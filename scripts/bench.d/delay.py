"""A wire with a delay, for kernels without netem: what arrives at one interface leaves by the other, so much later.

delay.py MILLISECONDS INTERFACE INTERFACE
"""

import collections
import select
import socket
import sys
import time

SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
# With the checksum's state in front of each frame: veth hands over checksums that are not filled in.
PACKET_VNET_HDR = 15
ETH_P_ALL = 0x0003


def end(interface):
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    wire.bind((interface, 0))
    wire.setblocking(False)
    return wire


def main():
    delay = float(sys.argv[1]) / 1000
    left, right = end(sys.argv[2]), end(sys.argv[3])
    other = {left: right, right: left}
    queue = collections.deque()
    while True:
        # The same delay for all: first in, first out.
        rest = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        ready, _, _ = select.select([left, right], [], [], rest)
        for wire in ready:
            try:
                while True:
                    frame = wire.recv(65600)
                    queue.append((time.monotonic() + delay, other[wire], frame))
            except BlockingIOError:
                pass
        while queue and queue[0][0] <= time.monotonic():
            _, wire, frame = queue.popleft()
            try:
                wire.send(frame)
            except OSError:
                pass


main()
