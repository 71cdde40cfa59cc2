"""Apply: every row is accounted for, whatever the target refuses."""
from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.apply.applier import REFUSED, apply
from engine.apply.order import by_foreign_keys
from engine.errors import Poison, Transient
from engine.model.batch import DELETE, INSERT
from engine.model.schema import TableName
from engine.model.write import WROTE, Outcome, Write
from tests.unit.runtime import fakes

TABLE = fakes.table("erp", "customer", ("id", "parent"))


def write_of(ids: list[str], op: int = INSERT, parents: list[str | None] | None = None) -> Write:
    values = pa.table({"id": pa.array(ids, pa.string()), "parent": pa.array(parents or [None] * len(ids), pa.string())})
    return Write(table=TABLE, key=("id",), op=np.full(len(ids), op, dtype=np.uint8), values=values, decided=np.full((len(ids), 2), op == INSERT))


class Target:
    """Refuses the rows `bad` and rows whose parent is not there. named: how many rows at fault it names, None for it does not say."""

    def __init__(self, bad: set[str], named: int | None) -> None:
        self.bad, self.named, self.rows, self.calls = bad, named, [], 0
        self.sent = 0

    def write(self, write: Write) -> Outcome:
        self.calls += 1
        self.sent += len(write)
        ids, parents = write.values.column("id").to_pylist(), write.values.column("parent").to_pylist()
        there = set(self.rows)
        wrong, reason = [], "check"
        for i, (name, parent) in enumerate(zip(ids, parents, strict=True)):
            if name in self.bad:
                wrong.append(i)
            elif parent is not None and parent not in there:
                wrong.append(i)
                reason = "foreign_key"
            there.add(name)
        if wrong:
            reason = "check" if ids[wrong[0]] in self.bad else reason
            raise Poison("refused", reason=reason, rows=tuple(wrong[: self.named]) if self.named is not None else ())
        self.rows += ids
        return Outcome(result=np.full(len(write), WROTE, dtype=np.uint8))


@pytest.mark.parametrize("named", [None, 1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_bad_rows_are_refused_and_all_others_written_once(named: int | None, seed: int) -> None:
    ids = [str(i) for i in range(60)]
    bad = set(random.Random(seed).sample(ids, (0, 1, 7, 40, 60)[seed]))
    target: Any = Target(bad, named)
    (applied,) = apply(target, [write_of(ids)])
    assert {ids[i] for i in applied.refused} == bad
    assert {ids[i] for i in np.flatnonzero(applied.result == REFUSED)} == bad
    assert sorted(target.rows) == sorted(set(ids) - bad)


def test_one_bad_row_among_many_does_not_cost_a_call_per_row() -> None:
    target: Any = Target({"777"}, None)
    apply(target, [write_of([str(i) for i in range(1_000)])])
    assert target.calls < 30
    many: Any = Target({str(i) for i in range(0, 1_000, 10)}, 1)
    apply(many, [write_of([str(i) for i in range(1_000)])])
    assert many.sent < 20_000


def test_a_chain_of_parents_goes_in_from_its_end() -> None:
    ids = [str(i) for i in range(8)]
    target: Any = Target(set(), None)
    (applied,) = apply(target, [write_of(ids, parents=["1", "2", "3", "4", "5", "6", "7", None])])
    assert not applied.refused
    assert sorted(target.rows) == ids


def test_a_row_whose_parent_never_comes_is_refused_with_that_reason() -> None:
    target: Any = Target(set(), 1)
    (applied,) = apply(target, [write_of(["a", "b"], parents=["x", None])])
    assert {i: why.reason for i, why in applied.refused.items()} == {0: "foreign_key"}


def test_deletes_come_first_children_before_parents() -> None:
    seen: list[tuple[str, int]] = []

    class Order:
        def write(self, write: Write) -> Outcome:
            seen.append((write.values.column("id")[0].as_py(), int(write.op[0])))
            return Outcome(result=np.full(len(write), WROTE, dtype=np.uint8))

    target: Any = Order()
    apply(target, [write_of(["parent"]), write_of(["old parent"], DELETE), write_of(["old child"], DELETE), write_of(["child"])])
    assert seen == [("old child", DELETE), ("old parent", DELETE), ("parent", INSERT), ("child", INSERT)]


def test_a_lost_connection_passes_through() -> None:
    class Away:
        def write(self, _write: Write) -> Outcome:
            raise Transient("away")

    target: Any = Away()
    with pytest.raises(Transient):
        apply(target, [write_of(["a"])])


def test_parents_come_before_children_and_cycles_have_an_order_too() -> None:
    def table(name: str, **parents: str) -> Any:
        return fakes.table("erp", name, ("id", *parents), parents=parents)

    def names(*tables: Any) -> list[str]:
        return [found.table for found in by_foreign_keys(tables)]

    assert names(table("line", o="ord"), table("ord", c="customer"), table("customer")) == ["customer", "ord", "line"]
    assert sorted(names(table("a", x="b"), table("b", x="a"), table("c", x="a"))) == ["a", "b", "c"]
    assert names(table("a", x="b"), table("b", x="a"), table("c", x="a")) == names(table("c", x="a"), table("b", x="a"), table("a", x="b"))
    assert names(table("self", x="self")) == ["self"]
    assert names(table("child", x="elsewhere")) == ["child"]
    assert by_foreign_keys([]) == []
    assert isinstance(by_foreign_keys([table("a")])[0], TableName)
