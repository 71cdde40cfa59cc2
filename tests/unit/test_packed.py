"""Rows come back from their stored form as they were."""
from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.model.state import NEVER, State

STAMPS = st.one_of(st.sampled_from([NEVER, 0, 16, 17]), st.integers(0, 2**62))


@st.composite
def states(draw: st.DrawFn) -> State:
    rows, columns = draw(st.integers(0, 12)), draw(st.integers(0, 9))
    state = State.unknown(rows, columns)
    for i in range(rows):
        few = draw(st.lists(STAMPS, min_size=1, max_size=9))
        state.present[i], state.life[i] = draw(st.booleans()), draw(STAMPS)
        state.fence[i] = draw(st.one_of(st.just(NEVER), st.integers(0, 2**62)))
        for c in range(columns):
            state.hashes[i, c], state.stamps[i, c] = draw(st.integers(0, 2**64 - 1)), draw(st.sampled_from(few))
    return state


@given(states(), st.data())
def test_pack_and_unpack(state: State, data: st.DataObject) -> None:
    absent = data.draw(st.sets(st.integers(0, max(len(state) - 1, 0))))
    values = [None if i in absent else value for i, value in enumerate(state.pack())]
    back = State.unpack(values, state.hashes.shape[1])
    unknown = State.unknown(1, state.hashes.shape[1])
    for i in range(len(state)):
        expected, row = (unknown, 0) if i in absent else (state, i)
        for field in State.__slots__:
            assert np.array_equal(getattr(back, field)[i], getattr(expected, field)[row]), field


def test_a_row_of_one_commit_is_small() -> None:
    state = State.unknown(3, 11)
    state.present[:], state.life[:], state.stamps[:] = True, 160, 160
    state.stamps[1, 4] = 320
    assert [len(value) for value in state.pack()] == [8 + 8 + 88 + 8, 8 + 8 + 88 + 16 + 11, 8 + 8 + 88 + 8]
