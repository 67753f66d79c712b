"""systemctl VERB NAME: asks the test, which has the services."""

import json
import os
import socket
import sys
from pathlib import Path

_, _, verb, name = sys.argv
with Path(os.environ["MACHINE_LOG"]).open("a", encoding="utf-8") as log:
    log.write(f"systemctl {verb} {name}\n")
address = Path(os.environ["MACHINE_SOCKET"])
os.chdir(address.parent)  # a socket's path may have 107 bytes
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect(address.name)
    peer.sendall(f"{verb} {name}\n".encode())
    code, text = json.loads(peer.makefile().read())
if text:
    print(text)
sys.exit(code)
