"""What the server says in place of events, as errors for the operator."""

from __future__ import annotations

from engine.errors import BRIDGE, Gap, SynclineError, Terminal, Transient


def server_error(number: int, message: str) -> SynclineError:
    """An error packet in the stream. The server's text names files and GTIDs, never values."""
    text = message[6:] if message.startswith("#") else message
    if number == 1236 and "same server" in text:
        return Terminal("another reader of this server's log uses the same server_id", fix="give each its own server_id")
    if number in (1236, 1373, 1789):
        said = f"(it says: {text[:300]})"
        if any(word in text for word in ("purged", "ould not find", "not found", "missing", "not in the master's binlog")):
            return Gap(f"the server no longer has the log from the position that was reached {said}")
        return Terminal(f"the server cannot send its log from here {said}", fix=f"see what the server says; or {BRIDGE}")
    if number in (1227, 1045):
        return Terminal("the user may not read the log", fix="GRANT REPLICATION SLAVE ON *.* TO the user")
    return Transient(f"the server ended the log stream with error {number}", fix="it is opened again by itself")
