"""Takes every connection to the pods' port and closes it: the world's pods, for probes. `sink.py PORT`."""

from __future__ import annotations

import selectors
import socket
import sys


def main(port: int) -> None:
    listener = socket.create_server(("0.0.0.0", port), backlog=4096)
    listener.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            selector.select()
            try:
                while True:
                    listener.accept()[0].close()
            except OSError:
                continue


if __name__ == "__main__":
    main(int(sys.argv[1]))
