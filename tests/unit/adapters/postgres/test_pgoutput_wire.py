"""The buffer of the replication protocol, and what the server's errors mean; no server."""

from __future__ import annotations

import pytest

from adapters.postgres.pgoutput_scan import split_frames
from adapters.postgres.pgoutput_wire import Busy, Inbox, error_fields, refused
from adapters.postgres.slot import names
from engine.errors import Terminal, Transient


def put(inbox: Inbox, data: bytes) -> None:
    inbox.room(len(data))[: len(data)] = data
    inbox.end += len(data)
    inbox.places(4096)
    inbox.split, inbox.count, kind = split_frames(inbox.raw, inbox.split, inbox.end, inbox.starts, inbox.ends, inbox.count)
    assert kind == 0


def frame(body: bytes) -> bytes:
    return b"d" + (len(body) + 4).to_bytes(4, "big") + body


def message(inbox: Inbox) -> bytes:
    body = bytes(inbox.raw[inbox.starts[inbox.first] : inbox.ends[inbox.first]])
    inbox.first += 1
    return body


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_forgetting_what_was_read_keeps_the_rest_whole(step: int) -> None:
    bodies = [bytes([n]) * (n * 3 + 1) for n in range(200)]
    data = b"".join(map(frame, bodies))
    inbox, seen = Inbox(), []
    for at in range(0, len(data), 977):
        put(inbox, data[at : at + 977])
        for _ in range(min(step, inbox.count - inbox.first)):
            seen.append(message(inbox))
        inbox.forget()
        assert inbox.first == 0
    while inbox.waiting:
        seen.append(message(inbox))
    assert seen == bodies


def test_the_buffer_grows_for_a_large_message_and_shrinks_again() -> None:
    inbox, body = Inbox(), b"x" * (40 << 20)
    put(inbox, frame(body))
    assert len(inbox.raw) >= len(body) and message(inbox) == body
    inbox.forget()
    assert len(inbox.raw) <= 8 << 20


@pytest.mark.parametrize(
    ("state", "message", "kind", "said"),
    [
        ("57P01", "terminating connection due to administrator command", Transient, "57P01"),
        ("53300", "too many", Transient, "53300"),
        ("58P01", "requested WAL segment has already been removed", Terminal, "no longer has the log"),
        ("42704", 'publication "p" does not exist', Terminal, "publication did not exist"),
        ("42704", 'replication slot "s" does not exist', Terminal, 'slot "s" does not exist'),
        ("55000", "can no longer get changes from replication slot", Terminal, "can no longer get changes"),
        ("", "", Transient, "unknown"),
    ],
)
def test_errors_of_the_walsender_are_retried_or_stop_us(state: str, message: str, kind: type[Exception], said: str) -> None:
    error = refused(state, message, "system erp")
    assert isinstance(error, kind) and said in str(error)


def test_an_error_about_a_value_does_not_quote_it() -> None:
    assert "secret" not in str(refused("22021", 'invalid byte sequence "secret"', "system erp"))


def test_a_slot_in_use_is_told_apart() -> None:
    assert isinstance(refused("55006", 'replication slot "s" is active for PID 5', "system erp"), Busy)


def test_fields_of_an_error_message() -> None:
    assert error_fields(b"SERROR\0C55006\0Mbusy\0\0") == ("55006", "busy")


def test_names_are_made_fit_for_the_server_and_stay_distinct() -> None:
    plain = names("erp", "rules", {}, "shop")
    assert (plain.publication, plain.slot) == ("syncline_rules", "syncline_rules_erp_shop")
    odd, other = names("erp", "Rules-1", {}, "shop"), names("erp", "rules.1", {}, "shop")
    assert odd.slot != other.slot and odd.slot.startswith("syncline_rules_1_erp_shop")
    assert len(names("erp", "r" * 100, {}, "shop").slot) <= 63
    assert names("erp", "rules", {"slot": "mine", "publication": "Ours"}, "shop").publication == "Ours"
    with pytest.raises(Terminal, match="cannot be the name of a slot"):
        names("erp", "rules", {"slot": "Not-valid"}, "shop")
