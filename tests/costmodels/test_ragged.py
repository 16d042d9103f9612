"""Lists laid end to end, taken apart and put together again."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from costmodels.ragged import gather, offsets_of, owners


@given(
    st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=1, max_size=8),
    st.lists(st.integers(0, 7), max_size=10),
)
def test_gather_takes_the_lists_in_the_order_given(lists, chosen):
    chosen = [each % len(lists) for each in chosen]
    offsets = offsets_of(np.array([len(each) for each in lists], np.int64))
    flat = np.array([value for each in lists for value in each], np.int64)
    entries, new_offsets = gather(offsets, np.array(chosen, np.int64))
    assert flat[entries].tolist() == [value for each in chosen for value in lists[each]]
    assert np.diff(new_offsets).tolist() == [len(lists[each]) for each in chosen]
    of = owners(new_offsets).tolist()
    assert of == [number for number, each in enumerate(chosen) for _ in lists[each]]
