"""Checks of kernels, on the copy of blocks and on decoding, here and in another process."""

import inspect
import textwrap

import pytest
import torch

from autograder.checks.finding import Misconception
from autograder.checks.kernel import Edited, KernelCase, KernelCheck, edited
from autograder.proxy.subject import LocalSubject
from course_lib.attention import PagedBatch, paged
from course_lib.attention.backends import compilation, trial
from course_lib.attention.backends.availability import TritonUnavailableError, triton_state

SEED = 1
pytest.importorskip("triton")
if triton_state().mode != "interpreted":
    pytest.skip("the guard watches the interpreter", allow_module_level=True)

KERNELS = "course_lib.attention.triton_kernels"
HEAD = "import triton\nimport triton.language as tl\n\n"


def copies(seed):
    """Two cases: copies of blocks of three heads, then of two heads in a cache of other strides."""
    generator = torch.Generator().manual_seed(seed)
    for title, heads, dim in (("three heads of 4", 3, 4), ("two heads of 8", 2, 8)):
        keys = torch.randn(6, 2, heads, dim, generator=generator)
        values = torch.randn(6, heads, 2, dim, generator=generator).transpose(1, 2)
        pairs = [(1, 3), (4, 2)]
        expected = {"key_cache": keys.clone(), "value_cache": values.clone()}
        for source, target in pairs:
            for name, cache in (("key_cache", keys), ("value_cache", values)):
                expected[name][target] = cache[source]
        arguments = {
            "key_cache": keys,
            "value_cache": values,
            "block_copies": torch.tensor(pairs, dtype=torch.int32),
        }
        needed = {"key_cache": len(pairs) * 2 * heads * dim * 4}
        yield KernelCase(title, arguments, expected, needed)


COPY = KernelCheck(
    kernel=f"{KERNELS}:copy_blocks_kernel",
    operation="copy_blocks_launch",
    cases=copies,
    mistakes=(
        Misconception(
            "ends swapped",
            "The first of a pair is read, the second written.",
            Edited(
                (
                    (
                        "source = tl.load(block_copies + 2 * pair)",
                        "source = tl.load(block_copies + 2 * pair + 1)",
                    ),
                    (
                        "tion = tl.load(block_copies + 2 * pair + 1)",
                        "tion = tl.load(block_copies + 2 * pair)",
                    ),
                )
            ),
        ),
    ),
    traffic_weight=0.5,
)


def decodes(seed):
    """Contexts of 3 and of 150 tokens; in the second the largest score comes last."""
    generator = torch.Generator().manual_seed(seed)
    heads, kv_heads, dim, block_size, num_blocks = 4, 2, 16, 4, 48
    for context in (3, 150):
        blocks = -(-context // block_size)
        table = (torch.randperm(num_blocks - 1, generator=generator)[:blocks] + 1).tolist()
        shape = (num_blocks, block_size, kv_heads, dim)
        keys, values = torch.full(shape, torch.nan), torch.full(shape, torch.nan)
        query = torch.randn(1, heads, dim, generator=generator)
        for position in range(context):
            at = table[position // block_size], position % block_size
            keys[at] = torch.randn(kv_heads, dim, generator=generator)
            values[at] = torch.randn(kv_heads, dim, generator=generator)
        keys[at] = 2 * query[0].view(kv_heads, -1, dim).mean(1)
        batch = PagedBatch.of([table], [context], num_blocks=num_blocks, block_size=block_size)
        arguments = {"query": query, "key_cache": keys, "value_cache": values, "batch": batch}
        read = context * kv_heads * dim * 4
        yield KernelCase(
            f"a context of {context} tokens, the largest score last",
            arguments,
            {"out": paged.paged_decode(query, keys, values, batch)},
            {"key_cache": read, "value_cache": read},
        )


DECODE = KernelCheck(
    kernel=f"{KERNELS}:paged_decode_kernel",
    operation="paged_decode_launch",
    cases=decodes,
    mistakes=(
        Misconception(
            "position for slot",
            "Where a token lies is in the block table.",
            Edited(
                (
                    (
                        "block = tl.load(entry, mask=valid, other=0).to(tl.int64)",
                        "block = position.to(tl.int64)",
                    ),
                )
            ),
        ),
        Misconception(
            "scores not masked",
            "A lane that stands for no token must not weigh.",
            Edited((('        scores = tl.where(valid[None, :], scores, float("-inf"))\n', ""),)),
        ),
    ),
    traffic_weight=0.5,
)
CHECKS = {"copy": COPY, "decode": DECODE}


@pytest.fixture
def patient(load):
    """Make a learner's kernel from source, in this process, with the patience of a check."""
    return lambda source, name: LocalSubject(getattr(load(source), name), COPY.patience)


def source_of(kernel, *edits):
    """Return the library's kernel as a learner's cell has it, with edits."""
    module, _, name = kernel.partition(":")
    text = textwrap.dedent(inspect.getsource(getattr(__import__(module, fromlist=["x"]), name).fn))
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    steps = "load_rows, store_rows, softmax_step"
    return f"{HEAD}from {module} import {steps}\n\n{text}"


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_reference_passes_and_its_traffic_is_told(check):
    finding = check.examine(LocalSubject(check.reference, check.patience), SEED, 1)
    assert finding.fraction == 1
    assert "bytes read" in finding.remarks[0]
    assert "needed" in finding.remarks[0]
    assert finding.remarks[-1].startswith("Compiled for sm_80, sm_90 and sm_100: ")


@pytest.mark.parametrize("where", ["patient", "remote"])
def test_the_learners_kernel_is_the_one_that_runs(where, request):
    make = request.getfixturevalue(where)
    right = make(source_of(COPY.kernel), "copy_blocks_kernel")
    assert COPY.examine(right, SEED, 1).fraction == 1
    swapped = COPY.mistakes[0].wrong.edits
    wrong = make(source_of(COPY.kernel, *swapped), "copy_blocks_kernel")
    finding = COPY.examine(wrong, SEED, 1)
    assert finding.fraction == 0
    assert finding.misconception.name == "ends swapped"
    case = finding.counterexample
    assert case.case.startswith(
        "copy_blocks_kernel: three heads of 4\nkey_cache=float32[6, 2, 3, 4]"
    )
    assert "key_cache as PyTorch computes it, to 0.0001 of its largest element" in case.expected
    assert "elements differ" in case.got


@pytest.mark.parametrize(
    ("check", "mistake"),
    [(check, m) for check in CHECKS.values() for m in check.misconceptions],
    ids=[m.name for check in CHECKS.values() for m in check.misconceptions],
)
def test_each_known_mistake_is_named(check, mistake):
    finding = check.examine(LocalSubject(mistake.wrong, check.patience), SEED, 1)
    assert finding.fraction == 0
    assert finding.misconception.name == mistake.name


def test_an_address_outside_is_shown_with_argument_program_and_lanes():
    far = edited(DECODE.kernel, Edited((("position // BLOCK_SIZE", "position * 1000"),)))
    case = DECODE.examine(LocalSubject(far, DECODE.patience), SEED, 1).counterexample
    assert case.case.startswith("paged_decode_kernel: a context of 3 tokens")
    assert case.got.startswith("paged_decode_kernel, program (0, 0, 0): 2 of 3 active lanes are")
    assert "outside block_tables" in case.got
    assert "lane (1,) at element 1000" in case.got


@pytest.mark.parametrize("where", ["patient", "remote"])
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("copy_blocks_kernel = object()", "not a Triton function; write @triton.jit above its def"),
        ("copy_blocks_kernel = 3", "not a Triton function"),
        ("def copy_blocks_kernel(key_cache): pass", "not a Triton function"),
        (
            f"{HEAD}@triton.jit\ndef copy_blocks_kernel(key_cache):\n    tl.store(key_cache, 0)",
            "keep the names in its def",
        ),
    ],
)
def test_what_is_no_such_kernel_earns_nothing(where, source, says, request):
    subject = request.getfixturevalue(where)(source, "copy_blocks_kernel")
    finding = COPY.examine(subject, SEED, 1)
    assert finding.fraction == 0
    assert says in finding.counterexample.got


def with_body(body):
    """Return the kernel with another body."""
    text = source_of(COPY.kernel)
    head = text[: text.index(':\n    """') + 2]
    return head + textwrap.indent(body, "    ") + "\n"


def test_the_stub_is_not_started(patient):
    finding = COPY.examine(patient(with_body('"""Doc."""'), "copy_blocks_kernel"), SEED, 1)
    assert (finding.fraction, finding.unwritten) == (0, True)


def test_a_constant_earns_nothing(patient):
    body = "tl.store(key_cache + tl.arange(0, 1), tl.zeros([1], tl.float32))"
    finding = COPY.examine(patient(with_body(body), "copy_blocks_kernel"), SEED, 1)
    assert (finding.fraction, finding.unwritten) == (0, False)


def test_an_endless_loop_is_cut_off(patient):
    source = with_body("n = 0\nwhile n < 1:\n    n = n * 1")
    subject = patient(source, "copy_blocks_kernel")
    subject._timeout = 1.0
    finding = COPY.examine(subject, SEED, 1)
    assert finding.fraction == 0
    assert "is there an endless loop?" in finding.counterexample.got


def test_what_no_gpu_can_run_is_a_failure_with_the_compilers_words(patient):
    # The interpreter runs Python, so it takes a list for a place to put numbers.
    source = source_of(COPY.kernel)
    at = source.index("    pair = ")
    source = source[:at] + "    seen = [0]\n    seen[0] = 1\n" + source[at:]
    finding = COPY.examine(patient(source, "copy_blocks_kernel"), SEED, 1)
    assert finding.fraction == 0
    assert finding.counterexample.case == "compiled for sm_80, sm_90 and sm_100, which needs no GPU"
    assert "compute capability 8.0" in finding.counterexample.got


def test_a_compiler_that_is_late_says_nothing_of_the_kernel(monkeypatch):
    monkeypatch.setattr(compilation, "TIMEOUT_SECONDS", 0.1)
    finding = COPY.examine(LocalSubject(COPY.reference, COPY.patience), SEED, 1)
    assert finding.fraction == 0
    assert "longer than 0.1 s; run it again" in finding.counterexample.got
    assert finding.counterexample.complaint.endswith("whether a GPU could is not known")


def test_reading_more_than_needed_costs_what_the_check_says(patient):
    source = source_of(COPY.kernel)
    load = next(line for line in source.split("\n") if "tl.load(key_cache" in line)
    indent = load[: len(load) - len(load.lstrip())]
    source = source.replace(load, f"{indent}tl.load(key_cache + tl.arange(0, 4))\n{load}")
    finding = COPY.examine(patient(source, "copy_blocks_kernel"), SEED, 1)
    assert finding.fraction == 0.5
    assert finding.counterexample.expected == "it reads 192 bytes of key_cache"
    assert finding.counterexample.got == "224 bytes of key_cache"
    assert "224 of key_cache, 192 needed" in finding.remarks[0]


def test_where_triton_does_not_exist_the_way_out_is_named(monkeypatch, patient):
    def none(*_):
        raise TritonUnavailableError("Triton is not installed; on Windows use WSL")

    none.__module__, none.__qualname__ = trial.__name__, "try_launch"
    monkeypatch.setattr(trial, "try_launch", none)
    finding = COPY.examine(patient(source_of(COPY.kernel), "copy_blocks_kernel"), SEED, 1)
    assert (finding.fraction, finding.unwritten, finding.misconception) == (0, False, None)
    assert finding.counterexample.got == "Triton is not installed; on Windows use WSL"


def test_an_edit_names_what_is_there_once():
    with pytest.raises(ValueError, match="has 'no such text' 0 times"):
        edited(COPY.kernel, Edited((("no such text", ""),)))


def test_a_small_case_is_shown_with_its_numbers():
    state = {
        name: torch.tensor([value]) for name, value in (("max_score", 2.0), ("denominator", 1.5))
    }
    tile = {"scores": torch.tensor([[5.0]]), "values": torch.tensor([[3.0]])}
    case = KernelCase(
        "one row, one key",
        {**state, "numerator": torch.tensor([[4.0]]), **tile},
        {"max_score": torch.tensor([0.0])},
    )
    check = KernelCheck(
        kernel=f"{KERNELS}:softmax_step", operation="softmax_step_launch", cases=lambda seed: [case]
    )
    finding = check.examine(LocalSubject(check.reference, check.patience), SEED, 1)
    assert finding.counterexample.case == (
        "softmax_step: one row, one key\n"
        "max_score=[2], denominator=[1.5], numerator=[[4]], scores=[[5]], values=[[3]]"
    )
