"""Programs to measure: each is given once, applies again, and comes from where it says."""

import numpy as np
import pytest
from search_tasks import TARGET, full, matmul, relu

from tvm_integration.collect.candidates import CandidateSource
from tvm_integration.compat import Target
from tvm_integration.identity import program_hash, trace_text
from tvm_integration.records.rows import schedule_of


def source(mod, target=TARGET, **options):
    rng = np.random.default_rng(3)
    return CandidateSource(mod, target, name="task", rng=rng, **options)


def hashes(candidates):
    return [program_hash(candidate.sch) for candidate in candidates]


def test_a_program_is_given_once_and_its_trace_leads_back_to_it():
    drawn = source(matmul(64))
    first, second = drawn.random(24), drawn.random(24)
    mutated = drawn.mutations([c.sch.trace for c in first[:4]], 16)
    everything = [*drawn.default(), *first, *second, *mutated]
    assert (len(first), len(second), len(mutated)) == (24, 24, 16)
    assert len(set(hashes(everything))) == len(everything)
    for candidate in everything:
        again = schedule_of(matmul(64), trace_text(candidate.sch.trace))
        assert program_hash(again) == program_hash(candidate.sch)
    assert drawn.default() == []


def test_known_programs_are_not_given():
    known = hashes(source(matmul(64)).random(16))
    drawn = source(matmul(64), known=known)
    assert not set(hashes(drawn.random(16))) & set(known)


def test_what_is_given_back_is_given_again():
    drawn = source(relu(128))
    everything = drawn.random(10_000)
    assert drawn.is_exhausted
    assert drawn.random(5) == []
    drawn.give_back(everything[:3])
    assert set(hashes(drawn.random(5))) <= set(hashes(everything[:3]))


def test_a_mutation_differs_in_one_decision():
    drawn = source(matmul(64))
    (parent,) = drawn.random(1)
    for child in drawn.mutations([parent.sch.trace], 6):
        ours = [str(d) for d in parent.sch.trace.decisions.values()]
        theirs = [str(d) for d in child.sch.trace.decisions.values()]
        assert len(ours) == len(theirs)
    assert drawn.mutations([], 3) == []


def test_a_space_without_choices():
    drawn = source(full())
    found = drawn.random(8)
    assert len(found) <= 8
    assert drawn.is_exhausted


@pytest.mark.parametrize("make", [matmul, relu])
def test_programs_for_a_gpu_bind_threads(make):
    target = Target(
        {
            "kind": "cuda",
            "arch": "sm_80",
            "max_threads_per_block": 1024,
            "max_shared_memory_per_block": 49152,
            "thread_warp_size": 32,
        }
    )
    drawn = source(make(64), target)
    (plain,) = drawn.default()
    for candidate in [plain, *drawn.random(4)]:
        text = candidate.sch.mod.script()
        assert "blockIdx.x" in text
        assert "threadIdx.x" in text
