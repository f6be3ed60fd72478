"""A request and its life."""

import itertools

import pytest

from course_lib.scheduling import NEXT_STATUSES, IllegalTransitionError, Request, RequestStatus
from course_lib.scheduling.request import next_statuses

S = RequestStatus


def request_in(status: RequestStatus) -> Request:
    """Return a request that has come to this status by the shortest legal way."""
    ways: dict[RequestStatus, list[RequestStatus]] = {S.WAITING: []}
    todo = [S.WAITING]
    for here in todo:
        for there in sorted(next_statuses(here), key=lambda s: s.value):
            if there not in ways:
                ways[there] = [*ways[here], there]
                todo.append(there)
    request = Request("a", [1], 1)
    for each in ways[status]:
        request.status = each
    return request


class TestLifeCycle:
    @pytest.mark.parametrize(("old", "new"), list(itertools.product(S, S)))
    def test_only_legal_moves_are_made(self, old: RequestStatus, new: RequestStatus) -> None:
        request = request_in(old)
        if new in next_statuses(old):
            request.status = new
            assert request.status is new
        else:
            with pytest.raises(IllegalTransitionError, match=f"from {old.value} to {new.value}"):
                request.status = new
            assert request.status is old

    def test_nothing_follows_the_end(self) -> None:
        for status in S:
            assert status.is_finished == (not next_statuses(status))

    def test_what_has_not_run_cannot_be_preempted(self) -> None:
        for status in (S.WAITING, S.PREEMPTED, S.SWAPPED):
            assert not next_statuses(status) & {S.PREEMPTED, S.SWAPPED}

    def test_only_a_waiting_request_is_ignored(self) -> None:
        assert [s for s in S if S.FINISHED_IGNORED in next_statuses(s)] == [S.WAITING]

    def test_everything_but_the_end_can_be_aborted(self) -> None:
        for status in S:
            assert (S.FINISHED_ABORTED in next_statuses(status)) != status.is_finished

    def test_the_plain_table_knows_neither_swapping_nor_planning_ahead(self) -> None:
        assert S.SWAPPED not in NEXT_STATUSES
        assert NEXT_STATUSES[S.RUNNING] == next_statuses(S.RUNNING) - {S.SWAPPED}
        late = {S.FINISHED_STOPPED, S.FINISHED_LENGTH_CAPPED}
        assert NEXT_STATUSES[S.PREEMPTED] == next_statuses(S.PREEMPTED) - late
        for status in set(S) - {S.RUNNING, S.PREEMPTED, S.SWAPPED}:
            assert NEXT_STATUSES[status] == next_statuses(status)


class TestTokens:
    def test_prompt_and_output(self) -> None:
        request = Request("a", (5, 6, 7), max_tokens=3)
        request.append_output(8)
        assert request.prompt_token_ids == [5, 6, 7]
        assert request.output_token_ids == [8]
        assert request.all_token_ids == [5, 6, 7, 8]
        assert (request.num_prompt_tokens, request.num_output_tokens) == (3, 1)
        assert (request.num_tokens, request.num_computed_tokens) == (4, 0)
        assert request.length_limit == 6

    def test_the_prompt_given_is_not_shared(self) -> None:
        prompt = [1, 2]
        Request("a", prompt, 1).append_output(3)
        assert prompt == [1, 2]

    def test_it_says_who_it_is(self) -> None:
        assert repr(Request("a", [1, 2], 1)) == "Request('a', waiting, 2 + 0 tokens, 0 computed)"

    def test_it_needs_a_prompt_and_room_for_an_answer(self) -> None:
        with pytest.raises(ValueError, match="'a' has an empty prompt; give at least one token"):
            Request("a", [], 1)
        with pytest.raises(ValueError, match="'a' has max_tokens 0; it generates at least 1"):
            Request("a", [1], 0)
