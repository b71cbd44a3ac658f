"""Writes what host-local and a runtime write: node-files.py FOLDER RESERVATIONS LOG BYTES"""

import hashlib
import os
import sys


def main():
    folder, count, log, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    for n in range(count):
        address = f"10.{8 + (n + 2 >> 16)}.{n + 2 >> 8 & 255}.{n + 2 & 255}"
        sandbox = hashlib.sha256(str(n).encode()).hexdigest()
        with open(os.path.join(folder, address), "w", encoding="ascii", newline="") as file:
            file.write(f"{sandbox}\r\neth0")
    line = b"2026-11-23T17:%02d:%02d.%09dZ stdout F GET /cart/%08d 200 in 12 ms, and some more words of a web server\n"
    with open(log, "wb") as file:
        written = n = 0
        while written < size:
            block = b"".join(line % (at // 60 % 60, at % 60, at % 1000000000, at) for at in range(n, n + 10000))
            written += file.write(block)
            n += 10000


main()
