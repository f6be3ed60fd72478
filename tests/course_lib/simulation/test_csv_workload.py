"""One's own CSV file as a workload: however it was saved, and what is wrong with it in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.simulation.csv_workload import load_csv
from course_lib.simulation.setup import Setup, SetupError, command_of, load_trace, run
from course_lib.simulation.setup import with_settings as with_texts
from course_lib.simulation.workload import TraceRequest

HEAD = "arrival_time,prompt_tokens,output_tokens"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.csv"


def read(path: Path, text: str) -> list[TraceRequest]:
    path.write_text(text, encoding="utf-8")
    return list(load_csv(path))


def test_requests_are_sorted_and_the_first_one_arrives_at_0(path: Path) -> None:
    found = read(path, f"{HEAD}\n7.5,90,9\n5,374,44\n")
    assert found == [TraceRequest(0.0, 374, 44), TraceRequest(2.5, 90, 9)]


def test_columns_may_be_in_any_order_and_others_are_passed_over(path: Path) -> None:
    found = read(path, "Output_Tokens,note,PROMPT_TOKENS,arrival_time\n9,x,90,0\n")
    assert found == [TraceRequest(0.0, 90, 9)]


def test_the_names_and_dates_of_azures_traces_will_do(path: Path) -> None:
    text = (
        "\ufeffTIMESTAMP,ContextTokens,GeneratedTokens\r\n"
        "2023-11-16 18:15:46.6805900,374,44\r\n\r\n"
        "2023-11-16 18:15:50.9805900,396,109\r\n"
    )
    assert read(path, text) == [TraceRequest(0.0, 374, 44), TraceRequest(4.3, 396, 109)]


def test_clients_priorities_and_deadlines_are_read_where_they_are_told(path: Path) -> None:
    text = f"{HEAD},client_id,priority,deadline\n10,9,9,search,2,15\n12,9,9,,,\n"
    first, second = read(path, text)
    assert (first.client_id, first.priority, first.deadline) == ("search", 2, 5.0)
    assert (second.client_id, second.priority, second.deadline) == ("", 0, float("inf"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has 0 lines; it needs a line of names, arrival_time,prompt_tokens,output_tokens"),
        (f"{HEAD}\n", "has 1 lines"),
        ("time,tokens\n1,2\n", "line 1: there is no column arrival_time, only 'time,tokens'"),
        (f"{HEAD.replace(',', ';')}\n1;2;3\n", "separated by commas, as in arrival_time"),
        (f"{HEAD}\n0,9,9\n1,twelve,9\n", "line 3: prompt_tokens is 'twelve'; it must be a whole"),
        (f"{HEAD}\n0,9,0\n", "line 2: output_tokens is '0'; it must be 1 or more"),
        (f"{HEAD}\n0,9,-3\n", "output_tokens is '-3'; it must be 1 or more"),
        (f"{HEAD}\n0,9.5,3\n", "prompt_tokens is '9.5'; it must be a whole number"),
        (f"{HEAD}\n0,inf,3\n", "prompt_tokens is 'inf'; it must be a whole number"),
        (f"{HEAD}\nsoon,9,3\n", "arrival_time is 'soon'; it must be a number of seconds, or a"),
        (f"{HEAD}\nnan,9,3\n", "arrival_time is 'nan'"),
        (f"{HEAD}\n0,9,3\n2023-11-16,9,3\n", "line 3: arrival_time is '2023-11-16'; it must be l"),
        (f"{HEAD}\n0,9\n", "line 2: '0,9' has 2 values; the columns need 3"),
        (f"{HEAD},priority\n0,9,9,high\n", "priority is 'high'; it must be a whole number"),
        (f"{HEAD},deadline\n0,9,9,later\n", "deadline is 'later'; it must be a number of seconds"),
    ],
)
def test_what_is_wrong_names_the_line_the_value_the_rule_and_the_remedy(
    path: Path, text: str, says: str
) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.csv") as caught:
        load_csv(path)
    assert says in str(caught.value)


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_csv(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        load_csv(tmp_path / "folder.csv")


def test_a_set_up_can_name_a_file(path: Path) -> None:
    path.write_text(f"{HEAD}\n0,90,9\n1,90,9\n2,90,9\n", encoding="utf-8")
    setup = Setup(str(path), requests=2)
    result = run(setup, load_trace(setup))
    assert [request.output_tokens for request in result.requests] == [9, 9]
    path.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(SetupError, match=r"mine\.csv has 1 lines"):
        load_trace(setup)


def test_a_workload_that_is_neither_known_nor_a_file_is_refused() -> None:
    with pytest.raises(SetupError, match="or give the path of a file that ends in"):
        Setup("mine.txt")


# What else a set-up can say


@pytest.mark.parametrize(
    "setup",
    [
        Setup(),
        Setup("gamma", requests=20, rate=2.5, model="llama-2-7b", gpu="l4", blocks=50),
        Setup("closed", policy="vtc", caching=True, clients=3, think_seconds=0.5, seed=7),
        Setup(preemption_mode="swap", num_cpu_blocks=9, victim_policy="most_tokens", parts="own"),
        Setup("a file.csv", caching=False, watermark=0.05),
    ],
)
def test_the_command_of_a_set_up_describes_it_completely(setup: Setup) -> None:
    import shlex

    _, _, workload, *rest = shlex.split(command_of(setup))
    pairs = zip(rest[::2], rest[1::2], strict=True)
    texts = [text if option == "--set" else f"{option}={text}" for option, text in pairs]
    assert with_texts(Setup(workload), texts) == setup


def test_a_victim_policy_decides_who_gives_way() -> None:
    tight = Setup(requests=60, rate=20.0, blocks=300)
    found = {
        victim: run(with_texts(tight, [f"victim-policy={victim}"]), None)
        for victim in ("last_in", "most_tokens")
    }
    hit = {
        victim: [request.num_preemptions for request in result.requests]
        for victim, result in found.items()
    }
    assert sum(hit["last_in"]) > 0
    assert hit["last_in"] != hit["most_tokens"]
    with pytest.raises(SetupError, match="no victim policy 'youngest'"):
        run(with_texts(tight, ["victim-policy=youngest"]), None)


def test_whose_parts_it_runs_on_is_one_of_two() -> None:
    with pytest.raises(SetupError, match="parts is 'mine'; it must be 'reference' or 'own'"):
        Setup(parts="mine")  # type: ignore[arg-type]


def test_a_part_of_ones_own_that_fails_is_named(workspace: Path) -> None:
    folder = workspace / "my_engine" / "BlockPool"
    folder.mkdir(parents=True)
    source = "def get_new_blocks(self, num_blocks):\n    raise KeyError('mine')\n"
    (folder / "get_new_blocks.py").write_text(source, encoding="utf-8")
    with pytest.raises(SetupError, match=r"your BlockPool.get_new_blocks raised KeyError: 'mine'"):
        run(Setup(requests=5, parts="own"), None)
    assert len(run(Setup(requests=5), None).requests) == 5


# When a request had lost its place


@pytest.mark.parametrize("mode", ["recompute", "swap"])
def test_there_is_a_pause_for_each_preemption_and_no_token_in_it(mode: str) -> None:
    setup = with_texts(
        Setup(requests=60, rate=20.0, blocks=300),
        [f"preemption-mode={mode}", f"num-cpu-blocks={300 if mode == 'swap' else 0}"],
    )
    result = run(setup, None)
    assert result.num_preemptions > 5
    told = zip(result.requests, result.token_log, result.pauses, strict=True)
    for request, times, pauses in told:
        assert len(pauses) == request.num_preemptions
        for pause in pauses:
            assert request.first_scheduled_time <= pause.start < pause.end < times[-1]
            assert not any(pause.start < time <= pause.end for time in times)
    computes_again = {pause.computes_again for pauses in result.pauses for pause in pauses}
    assert computes_again >= {mode == "recompute"}
