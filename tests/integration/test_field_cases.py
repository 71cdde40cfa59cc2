"""Cases of docs/guarantees.md that no other file shows on real servers: triggers, equal times, empty values, a merge that breaks a CHECK."""
from __future__ import annotations

from tests.integration.test_scenarios import PERSON, Made, both, made, same, stands_still  # noqa: F401
from tests.pair import Side


def shouting(side: Side) -> None:
    """A trigger that changes whatever is written into `name`."""
    if side.adapter == "postgres":
        side.run("CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.name := upper(NEW.name); RETURN NEW; END'")
        side.run("CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON person FOR EACH ROW EXECUTE FUNCTION shout()")
        return
    for event in ("INSERT", "UPDATE"):
        side.run(f"CREATE TRIGGER shout_{event.lower()} BEFORE {event} ON person FOR EACH ROW SET NEW.name = upper(NEW.name)")


def test_a_trigger_that_changes_what_we_write_makes_no_circle(made: Made) -> None:  # noqa: F811
    pair = made(PERSON, both())
    shouting(pair.erp)
    pair.crm.run("INSERT INTO person (id, name, phone) VALUES (1, 'Žofie', '1'), (2, 'Jiří', '2')")
    pair.settle()
    stands_still(pair)
    pair.crm.run("UPDATE person SET name = 'Přemysl' WHERE id = 2")
    pair.settle()
    assert pair.erp.run("SELECT name FROM person WHERE id = 2")[0][0] == "PŘEMYSL"
    # What the trigger made of our value is no change of an application's: it does not go back.
    assert pair.crm.run("SELECT name FROM person WHERE id = 2")[0][0] == "Přemysl"
    stands_still(pair)
    assert pair.quarantine() == []
    pair.erp.run("UPDATE person SET name = 'changed there' WHERE id = 1")
    pair.settle()
    assert [side.run("SELECT name FROM person WHERE id = 1")[0][0] for side in (pair.crm, pair.erp)] == ["CHANGED THERE"] * 2


def test_equal_times_end_in_one_value_on_both_sides(made: Made) -> None:  # noqa: F811
    pair = made("CREATE TABLE person (id int PRIMARY KEY, name varchar(50))", both(more='clock = "changed"', select="id, name, changed"))
    for side in (pair.crm, pair.erp):
        side.run(f"ALTER TABLE person ADD changed {'timestamp(0)' if side.adapter == 'postgres' else 'datetime'}")
    pair.crm.run("INSERT INTO person VALUES (1, 'before', '2026-01-01 00:00:00')")
    pair.settle()
    for side, name in ((pair.erp, "by erp"), (pair.crm, "by crm")):
        side.run(f"UPDATE person SET name = '{name}', changed = '2026-05-05 05:05:05' WHERE id = 1")
    pair.settle()
    same(pair, "SELECT id, name FROM person")
    assert pair.crm.run("SELECT name FROM person")[0][0] == "by erp"  # the system that the configuration names last
    stands_still(pair)


def test_an_empty_value_does_not_beat_a_filled_one(made: Made) -> None:  # noqa: F811
    pair = made(PERSON, both(more='policies = { phone = "non_empty" }'))
    pair.crm.run("INSERT INTO person (id, name, phone) VALUES (1, 'a', '+420 1'), (2, 'b', '+420 2'), (3, 'c', NULL)")
    pair.settle()
    pair.erp.run("UPDATE person SET phone = '' WHERE id = 1")
    pair.erp.run("UPDATE person SET phone = NULL, name = 'changed' WHERE id = 2")
    pair.erp.run("UPDATE person SET phone = '+420 3' WHERE id = 3")
    pair.settle()
    assert sorted(pair.crm.run("SELECT id, name, phone FROM person")) == [(1, "a", "+420 1"), (2, "changed", "+420 2"), (3, "c", "+420 3")]
    same(pair)
    stands_still(pair)


def test_cells_of_both_sides_that_break_a_check_together_set_that_row_aside_alone(made: Made) -> None:  # noqa: F811
    ddl = "CREATE TABLE person (id int PRIMARY KEY, name varchar(50), phone varchar(30), kind varchar(10), CHECK (kind <> 'VIP' OR phone IS NOT NULL))"
    pair = made(ddl, both())
    pair.crm.run("INSERT INTO person VALUES (1, 'a', '1', 'A'), (2, 'b', '2', 'A')")
    pair.settle()
    pair.crm.run("UPDATE person SET phone = NULL WHERE id = 1")
    pair.erp.run("UPDATE person SET kind = 'VIP' WHERE id = 1")
    pair.crm.run("UPDATE person SET name = 'goes on' WHERE id = 2")
    pair.settle()
    assert {(q["rule"], q["key"]["id"], q["code"]) for q in pair.quarantine()} == {("to_erp", "1", "check"), ("to_crm", "1", "check")}
    assert pair.erp.run("SELECT name FROM person WHERE id = 2")[0][0] == "goes on"

    pair.crm.run("UPDATE person SET phone = '+420 1' WHERE id = 1")
    pair.settle()
    assert pair.quarantine() == []
    assert sorted(pair.crm.run("SELECT id, phone, kind FROM person")) == [(1, "+420 1", "VIP"), (2, "2", "A")]
    same(pair)
