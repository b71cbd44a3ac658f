"""Opens COUNT TCP sockets in this network namespace, in pairs over the loopback, and keeps them: many-sockets.py COUNT

Prints `ready` once they are open. Several processes hold them: one may not have so many files open.
"""

import os
import resource
import socket
import sys

# One address and listener has room for 28,000 clients (ip_local_port_range).
PAIRS_A_PROCESS = 5000


def hold(number, pairs, ready):
    address = f"127.0.{number}.1"
    listener = socket.create_server((address, 9000), backlog=1024)
    kept = [listener]
    for _ in range(pairs):
        client = socket.socket()
        client.connect((address, 9000))
        kept += [client, listener.accept()[0]]
    os.write(ready, b"x")
    try:
        os.read(0, 1)
    finally:
        os._exit(0)


def main():
    pairs = int(sys.argv[1]) // 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = min(PAIRS_A_PROCESS, (hard - 20) // 2)
    seen, ready = os.pipe()
    children = 0
    while pairs > 0:
        now = min(pairs, most)
        children += 1
        pairs -= now
        if os.fork() == 0:
            os.close(seen)
            hold(children, now, ready)
    os.close(ready)
    for _ in range(children):
        if os.read(seen, 1) != b"x":
            sys.exit("a process could not open its sockets")
    print("ready", flush=True)
    # Until standard input ends, for the children too.
    os.read(0, 1)


main()
