"""The Triton kernels of attention over a paged cache; ``triton_ops`` launches them.

How to read one. A kernel is a program that is started many times, once for each point of a grid;
``tl.program_id`` says which one this is. A program works on small arrays whose sizes are powers of
two, known when it is compiled (``tl.constexpr``); lanes that stand for nothing are masked off.
Tensors arrive as the address of their first element, so every index is spelled out with strides;
that is why the list of parameters is often as long as the body.

All of them keep these rules:

- Neighbouring lanes read neighbouring addresses: the last axis runs over head_dim.
- What a sequence does not own is never read, however harmless: masks follow the context length.
- Block ids become 64-bit before they are multiplied by a stride: a cache may have more than 2³¹
  elements.
- Sums are 32-bit. Products of matrices are made in ``DOT_DTYPE``: the type of the cache, so that
  tensor cores can do it, but 32-bit under the interpreter, whose ``tl.dot`` multiplies the bits of
  bfloat16 as if they were integers.
- Triton's products on tensor cores have at least 16 rows: a group of fewer query heads is padded
  with rows of zeros.
- Exponentials are powers of two, which GPUs have an instruction for: ``scale_log2`` is the scale
  times log₂ e.
- A tile of keys is ``TILE`` tokens, often several blocks, so that many loads are under way at once.

Three functions are no kernels but steps of several: ``load_rows``, ``store_rows`` and
``softmax_step``. The compiler puts their code where they are called.
"""

import triton
import triton.language as tl


@triton.jit
def load_rows(tensor, row, valid, WIDTH: tl.constexpr, LANES: tl.constexpr):
    """Return the numbers of several rows, [rows, LANES]; 0 where there is nothing to read.

    Args:
        tensor: The address of a tensor's first element.
        row: Where each row begins, in elements from there: [rows].
        valid: Which rows to read: [rows].
        WIDTH: Numbers of a row; they are neighbours.
        LANES: ``WIDTH``, padded to a power of two.
    """
    lane = tl.arange(0, LANES)
    mask = valid[:, None] & (lane < WIDTH)[None, :]
    return tl.load(tensor + row[:, None] + lane[None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(tensor, row, numbers, valid, WIDTH: tl.constexpr, LANES: tl.constexpr):
    """Write the numbers of several rows, [rows, LANES], in the type of the tensor.

    Args:
        tensor: The address of a tensor's first element.
        row: Where each row begins, in elements from there: [rows].
        numbers: What to write; the first ``WIDTH`` of each row are.
        valid: Which rows to write: [rows].
        WIDTH: Numbers of a row; they are neighbours.
        LANES: ``WIDTH``, padded to a power of two.
    """
    lane = tl.arange(0, LANES)
    mask = valid[:, None] & (lane < WIDTH)[None, :]
    numbers = numbers.to(tensor.dtype.element_ty)
    tl.store(tensor + row[:, None] + lane[None, :], numbers, mask=mask)


@triton.jit
def softmax_step(max_score, denominator, numerator, scores, values):
    """Add a tile of keys to the state of the softmax, and return the new state.

    As ``dense.merge_states``, with the state of the tile made on the way: the sums so far are
    relative to the old maximum, so they are brought to the new one before anything is added.

    Args:
        max_score: The largest score so far, m: float32 [rows]; -inf before the first tile.
        denominator: The sum of the weights, l: float32 [rows]; 0 before the first tile.
        numerator: The sum of the weighted values, acc: float32 [rows, dims]; 0 likewise.
        scores: Of each row with each key of the tile, times log2(e), so that a weight is a power
            of two: float32 [rows, keys]. -inf for a key that the row does not see. A row sees a
            key in this tile, or has seen one before.
        values: Of the keys, in the type in which matrices are multiplied: [keys, dims]. Finite.

    Returns:
        max_score, denominator and numerator over all keys up to this tile's last.
    """
    # The largest score of each row so far, this tile's included: new_max [rows].
    new_max = tl.maximum(max_score, tl.max(scores, axis=1))

    # What the old sums shrink by [rows], and the weights of this tile's keys [rows, keys].
    rescale = tl.exp2(max_score - new_max)
    weights = tl.exp2(scores - new_max[:, None])

    # The denominator over all keys up to here, and the old numerator, both relative to new_max.
    denominator = denominator * rescale + tl.sum(weights, axis=1)
    numerator = numerator * rescale[:, None]

    # Add the weighted values: tl.dot adds the product of two matrices to its third argument.
    numerator = tl.dot(weights.to(values.dtype), values, numerator, input_precision="ieee")
    return new_max, denominator, numerator


@triton.jit
def reshape_and_cache_kernel(
    key,  # [num_tokens, num_kv_heads, head_dim]
    value,  # [num_tokens, num_kv_heads, head_dim]
    key_cache,  # [num_blocks, block_size, num_kv_heads, head_dim]
    value_cache,  # [num_blocks, block_size, num_kv_heads, head_dim]
    slot_mapping,  # [num_tokens]
    key_token_stride,
    key_head_stride,
    value_token_stride,
    value_head_stride,
    key_cache_block_stride,
    key_cache_slot_stride,
    key_cache_head_stride,
    value_cache_block_stride,
    value_cache_slot_stride,
    value_cache_head_stride,
    BLOCK_SIZE: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LANES: tl.constexpr,  # at least NUM_KV_HEADS * HEAD_DIM
):
    """Write one token's key and value to its slot.

    Slot s is slot ``s % BLOCK_SIZE`` of block ``s // BLOCK_SIZE``, and -1 is padding: nothing is
    read or written for it. Keys and values, and the two caches, each have strides of their own. The
    numbers of one head are neighbours everywhere. Slots come in 32 bits or in 64, and a block times
    its stride may need 64.

    Grid: (num_tokens,).
    """
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_mapping + token).to(tl.int64)
    if slot >= 0:
        block = slot // BLOCK_SIZE
        offset = slot % BLOCK_SIZE

        # One lane for each number of the token's key.
        lane = tl.arange(0, LANES)
        head = lane // HEAD_DIM
        dim = lane % HEAD_DIM
        mask = lane < NUM_KV_HEADS * HEAD_DIM

        # From the token's place in the batch to its slot in the cache.
        source = token * key_token_stride + head * key_head_stride + dim
        target = block * key_cache_block_stride + offset * key_cache_slot_stride
        target += head * key_cache_head_stride + dim
        tl.store(key_cache + target, tl.load(key + source, mask=mask), mask=mask)

        # The same for the value.
        source = token * value_token_stride + head * value_head_stride + dim
        target = block * value_cache_block_stride + offset * value_cache_slot_stride
        target += head * value_cache_head_stride + dim
        tl.store(value_cache + target, tl.load(value + source, mask=mask), mask=mask)


@triton.jit
def paged_decode_kernel(
    out,  # [num_seqs, num_heads, head_dim]
    query,  # [num_seqs, num_heads, head_dim]
    key_cache,  # [num_blocks, block_size, num_kv_heads, head_dim]
    value_cache,  # [num_blocks, block_size, num_kv_heads, head_dim]
    block_tables,  # [num_seqs, max_blocks]
    context_lens,  # [num_seqs]
    scale_log2,
    out_seq_stride,
    out_head_stride,
    query_seq_stride,
    query_head_stride,
    key_block_stride,
    key_slot_stride,
    key_head_stride,
    value_block_stride,
    value_slot_stride,
    value_head_stride,
    table_seq_stride,
    BLOCK_SIZE: tl.constexpr,
    GROUP: tl.constexpr,  # query heads per KV head
    GROUP_LANES: tl.constexpr,  # GROUP, padded
    HEAD_DIM: tl.constexpr,
    DIM_LANES: tl.constexpr,  # HEAD_DIM, padded
    TILE: tl.constexpr,
    DOT_DTYPE: tl.constexpr,
):
    """Attend from one sequence's new token, for the query heads that share one KV head.

    These are heads ``kv_head * GROUP`` to ``(kv_head + 1) * GROUP - 1``. Token p of the sequence is
    in slot ``p % BLOCK_SIZE`` of the block in entry ``p // BLOCK_SIZE`` of its table. Each key and
    value of the context, at least one, is read once; nothing else in the cache is, and no entry of
    the table after the last block. A score is a dot product times ``scale_log2``, and its weight a
    power of two.

    Grid: (num_seqs, num_kv_heads).
    """
    seq = tl.program_id(0)
    kv_head = tl.program_id(1)
    context_len = tl.load(context_lens + seq)

    # The queries of the group: [GROUP_LANES, DIM_LANES].
    member = tl.arange(0, GROUP_LANES)
    head = kv_head * GROUP + member
    query_row = seq * query_seq_stride + head * query_head_stride
    q = load_rows(query, query_row, member < GROUP, HEAD_DIM, DIM_LANES).to(DOT_DTYPE)

    # The state of the softmax: m, l and acc.
    max_score = tl.full([GROUP_LANES], float("-inf"), tl.float32)
    denominator = tl.zeros([GROUP_LANES], tl.float32)
    numerator = tl.zeros([GROUP_LANES, DIM_LANES], tl.float32)

    for start in range(0, context_len, TILE):
        # Where the tokens of this tile are.
        position = start + tl.arange(0, TILE)
        valid = position < context_len
        entry = block_tables + seq * table_seq_stride + position // BLOCK_SIZE
        block = tl.load(entry, mask=valid, other=0).to(tl.int64)
        slot = position % BLOCK_SIZE

        # Their keys and values: [TILE, DIM_LANES].
        key_row = block * key_block_stride + slot * key_slot_stride + kv_head * key_head_stride
        k = load_rows(key_cache, key_row, valid, HEAD_DIM, DIM_LANES).to(DOT_DTYPE)
        value_row = block * value_block_stride + slot * value_slot_stride
        value_row += kv_head * value_head_stride
        v = load_rows(value_cache, value_row, valid, HEAD_DIM, DIM_LANES).to(DOT_DTYPE)

        # Scores, the exponents of 2 in the weights: [GROUP_LANES, TILE].
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
        scores = tl.where(valid[None, :], scores, float("-inf"))

        # Bring the sums to the new maximum and add this tile's share.
        max_score, denominator, numerator = softmax_step(
            max_score, denominator, numerator, scores, v
        )

    # Divide once, at the end.
    attention = numerator / denominator[:, None]
    out_row = seq * out_seq_stride + head * out_head_stride
    store_rows(out, out_row, attention, member < GROUP, HEAD_DIM, DIM_LANES)


@triton.jit
def split_decode_kernel(
    split_max,  # [num_seqs, num_heads, num_splits]
    split_denominator,  # [num_seqs, num_heads, num_splits]
    split_numerator,  # [num_seqs, num_heads, num_splits, head_dim]
    query,  # [num_seqs, num_heads, head_dim]
    key_cache,  # [num_blocks, block_size, num_kv_heads, head_dim]
    value_cache,  # [num_blocks, block_size, num_kv_heads, head_dim]
    block_tables,  # [num_seqs, max_blocks]
    context_lens,  # [num_seqs]
    scale_log2,
    tokens_per_split,  # a multiple of TILE
    num_heads,
    num_splits,
    query_seq_stride,
    query_head_stride,
    key_block_stride,
    key_slot_stride,
    key_head_stride,
    value_block_stride,
    value_slot_stride,
    value_head_stride,
    table_seq_stride,
    BLOCK_SIZE: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_LANES: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM_LANES: tl.constexpr,
    TILE: tl.constexpr,
    DOT_DTYPE: tl.constexpr,
):
    """Leave behind the softmax state of one stretch of a sequence, for one KV head's queries.

    Stretch i is tokens ``i * tokens_per_split`` to ``(i + 1) * tokens_per_split - 1``, as far as
    the context goes. One beyond it leaves the empty state: -inf, 0, 0. The three results are
    contiguous. All else is as in ``paged_decode_kernel``.

    Grid: (num_seqs, num_kv_heads, num_splits).
    """
    seq = tl.program_id(0)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)

    # The stretch that is this program's: tokens first to end - 1. Beyond the context it is empty.
    first = split * tokens_per_split
    end = tl.minimum(first + tokens_per_split, tl.load(context_lens + seq))

    member = tl.arange(0, GROUP_LANES)
    head = kv_head * GROUP + member
    query_row = seq * query_seq_stride + head * query_head_stride
    q = load_rows(query, query_row, member < GROUP, HEAD_DIM, DIM_LANES).to(DOT_DTYPE)

    max_score = tl.full([GROUP_LANES], float("-inf"), tl.float32)
    denominator = tl.zeros([GROUP_LANES], tl.float32)
    numerator = tl.zeros([GROUP_LANES, DIM_LANES], tl.float32)

    for start in range(first, end, TILE):
        position = start + tl.arange(0, TILE)
        valid = position < end
        entry = block_tables + seq * table_seq_stride + position // BLOCK_SIZE
        block = tl.load(entry, mask=valid, other=0).to(tl.int64)
        slot = position % BLOCK_SIZE

        key_row = block * key_block_stride + slot * key_slot_stride + kv_head * key_head_stride
        k = load_rows(key_cache, key_row, valid, HEAD_DIM, DIM_LANES).to(DOT_DTYPE)
        value_row = block * value_block_stride + slot * value_slot_stride
        value_row += kv_head * value_head_stride
        v = load_rows(value_cache, value_row, valid, HEAD_DIM, DIM_LANES).to(DOT_DTYPE)

        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
        scores = tl.where(valid[None, :], scores, float("-inf"))

        max_score, denominator, numerator = softmax_step(
            max_score, denominator, numerator, scores, v
        )

    # The state as it is: whoever combines the splits divides.
    row = (seq * num_heads + head) * num_splits + split
    tl.store(split_max + row, max_score, mask=member < GROUP)
    tl.store(split_denominator + row, denominator, mask=member < GROUP)
    store_rows(split_numerator, row * HEAD_DIM, numerator, member < GROUP, HEAD_DIM, DIM_LANES)


@triton.jit
def combine_splits_kernel(
    out,  # [num_seqs, num_heads, head_dim]
    split_max,  # [num_seqs, num_heads, num_splits]
    split_denominator,  # [num_seqs, num_heads, num_splits]
    split_numerator,  # [num_seqs, num_heads, num_splits, head_dim]
    num_splits,
    out_seq_stride,
    out_head_stride,
    HEAD_DIM: tl.constexpr,
    DIM_LANES: tl.constexpr,
    SPLIT_LANES: tl.constexpr,  # at least num_splits
):
    """Merge the states that the splits of one sequence and query head left behind, and divide.

    As ``dense.merge_states``, but weights are powers of two. Any split but the first may be empty:
    -inf, 0, 0. There may be any number of splits from 1; the states are contiguous.

    Grid: (num_seqs, num_heads).
    """
    seq, head = tl.program_id(0), tl.program_id(1)
    split = tl.arange(0, SPLIT_LANES)

    # All states at once; lanes beyond the last split hold the empty state.
    row = (seq * tl.num_programs(1) + head) * num_splits + split
    valid = split < num_splits
    max_score = tl.load(split_max + row, mask=valid, other=float("-inf"))
    denominator = tl.load(split_denominator + row, mask=valid, other=0.0)
    numerator = load_rows(split_numerator, row * HEAD_DIM, valid, HEAD_DIM, DIM_LANES)

    # Bring them to the common maximum, which is finite: the first split has seen a key.
    factor = tl.exp2(max_score - tl.max(max_score, axis=0))
    total = tl.sum(numerator * factor[:, None], axis=0)
    attention = total / tl.sum(denominator * factor, axis=0)

    dim = tl.arange(0, DIM_LANES)
    out_offset = seq * out_seq_stride + head * out_head_stride + dim
    tl.store(out + out_offset, attention.to(out.dtype.element_ty), mask=dim < HEAD_DIM)


@triton.jit
def chunked_prefill_kernel(
    out,  # [num_tokens, num_heads, head_dim]
    query,  # [num_tokens, num_heads, head_dim]
    key_cache,  # [num_blocks, block_size, num_kv_heads, head_dim]
    value_cache,  # [num_blocks, block_size, num_kv_heads, head_dim]
    block_tables,  # [num_seqs, max_blocks]
    context_lens,  # [num_seqs]
    query_starts,  # [num_seqs + 1]
    scale_log2,
    out_token_stride,
    out_head_stride,
    query_token_stride,
    query_head_stride,
    key_block_stride,
    key_slot_stride,
    key_head_stride,
    value_block_stride,
    value_slot_stride,
    value_head_stride,
    table_seq_stride,
    BLOCK_SIZE: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,  # at least QUERIES * GROUP
    QUERIES: tl.constexpr,  # query tokens per program
    HEAD_DIM: tl.constexpr,
    DIM_LANES: tl.constexpr,
    TILE: tl.constexpr,
    DOT_DTYPE: tl.constexpr,
):
    """Attend from ``QUERIES`` tokens of a chunk, for the query heads that share one KV head.

    A row of the tile is a token and a query head, the heads of a token side by side, so that the
    keys that they share are read once. The chunk is the last tokens of the context; a query sees
    the keys at positions up to its own. Keys are read up to the last token of the tile. A sequence
    may have fewer tokens than the longest chunk: tiles beyond its chunk read and write nothing.

    Grid: (enough tiles for the longest chunk, num_kv_heads, num_seqs).
    """
    # The last tile of a chunk sees the most keys: it starts first, and short ones fill the end.
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * QUERIES
    kv_head, seq = tl.program_id(1), tl.program_id(2)
    chunk_start = tl.load(query_starts + seq)
    chunk_len = tl.load(query_starts + seq + 1) - chunk_start
    context_len = tl.load(context_lens + seq)
    first_position = context_len - chunk_len + first

    # Which token and head each row stands for, and where in the sequence the token is.
    row = tl.arange(0, ROWS)
    token_in_chunk = first + row // GROUP
    head = kv_head * GROUP + row % GROUP
    query_position = first_position + row // GROUP
    row_valid = (row < QUERIES * GROUP) & (token_in_chunk < chunk_len)

    # Their queries: [ROWS, DIM_LANES].
    token = (chunk_start + token_in_chunk).to(tl.int64)
    query_row = token * query_token_stride + head * query_head_stride
    q = load_rows(query, query_row, row_valid, HEAD_DIM, DIM_LANES).to(DOT_DTYPE)

    # The state of the softmax. Every row sees key 0, in the first tile.
    max_score = tl.full([ROWS], float("-inf"), tl.float32)
    denominator = tl.zeros([ROWS], tl.float32)
    numerator = tl.zeros([ROWS, DIM_LANES], tl.float32)

    # No row sees beyond the last token of the tile; a tile beyond the chunk sees nothing.
    end = tl.where(first < chunk_len, tl.minimum(context_len, first_position + QUERIES), 0)

    # Up to the first query's own key, every row sees every key: whole tiles of these need no mask.
    # The compiler makes two loops of this one, the second for the tiles that are left.
    seen_by_all = tl.minimum((first_position + 1) // TILE * TILE, end)

    for masked in tl.static_range(2):
        for start in range(seen_by_all if masked else 0, end if masked else seen_by_all, TILE):
            position = start + tl.arange(0, TILE)
            valid = position < end
            entry = block_tables + seq * table_seq_stride + position // BLOCK_SIZE
            block = tl.load(entry, mask=valid, other=0).to(tl.int64)
            slot = position % BLOCK_SIZE

            key_row = block * key_block_stride + slot * key_slot_stride + kv_head * key_head_stride
            k = load_rows(key_cache, key_row, valid, HEAD_DIM, DIM_LANES).to(DOT_DTYPE)
            value_row = block * value_block_stride + slot * value_slot_stride
            value_row += kv_head * value_head_stride
            v = load_rows(value_cache, value_row, valid, HEAD_DIM, DIM_LANES).to(DOT_DTYPE)

            scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
            if masked:
                # A query sees the keys up to its own position.
                visible = position[None, :] <= query_position[:, None]

                scores = tl.where(visible, scores, float("-inf"))

            state = softmax_step(max_score, denominator, numerator, scores, v)
            max_score, denominator, numerator = state

    # A tile beyond the chunk has seen nothing; it stores nothing either, but 0 / 0 would warn.
    attention = numerator / tl.where(denominator > 0, denominator, 1.0)[:, None]
    out_row = token * out_token_stride + head * out_head_stride
    store_rows(out, out_row, attention, row_valid, HEAD_DIM, DIM_LANES)


@triton.jit
def copy_blocks_kernel(
    key_cache,  # [num_blocks, block_size, num_kv_heads, head_dim]
    value_cache,  # [num_blocks, block_size, num_kv_heads, head_dim]
    block_copies,  # [num_copies, 2]: source, destination
    key_block_stride,
    key_slot_stride,
    key_head_stride,
    value_block_stride,
    value_slot_stride,
    value_head_stride,
    BLOCK_SIZE: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LANES: tl.constexpr,
):
    """Copy ``LANES`` numbers of a block's keys, and as many of its values.

    A block has ``BLOCK_SIZE * NUM_KV_HEADS * HEAD_DIM`` numbers, and the last program of a copy may
    have fewer left than lanes. The two caches have strides of their own. No destination is the
    source or the destination of another copy.

    Grid: (num_copies, enough programs for all numbers of a block).
    """
    pair = tl.program_id(0)
    source = tl.load(block_copies + 2 * pair).to(tl.int64)
    destination = tl.load(block_copies + 2 * pair + 1).to(tl.int64)

    # Which slot, head and number of the block each lane stands for.
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    mask = lane < BLOCK_SIZE * NUM_KV_HEADS * HEAD_DIM
    slot = lane // (NUM_KV_HEADS * HEAD_DIM)
    head = lane // HEAD_DIM % NUM_KV_HEADS
    dim = lane % HEAD_DIM

    # The same place in both blocks.
    place = slot * key_slot_stride + head * key_head_stride + dim
    numbers = tl.load(key_cache + source * key_block_stride + place, mask=mask)
    tl.store(key_cache + destination * key_block_stride + place, numbers, mask=mask)

    place = slot * value_slot_stride + head * value_head_stride + dim
    numbers = tl.load(value_cache + source * value_block_stride + place, mask=mask)
    tl.store(value_cache + destination * value_block_stride + place, numbers, mask=mask)
