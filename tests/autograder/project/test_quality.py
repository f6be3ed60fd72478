"""Code quality: each rule, what it costs, and that no comment silences it."""

import textwrap

import pytest

from autograder.project import performance, quality
from autograder.project.checks import QualityCheck
from autograder.project.performance import untimed
from autograder.project.pieces import pieces_of
from autograder.project.quality import COMPLEX, UNREADABLE, cost, faults_in, judged
from autograder.project.rubric import rubric
from autograder.proxy.subject import LocalSubject

BROKEN = {
    "B006": "def f(x=[]):\n    return x",
    "B007": "def f(x):\n    for i in x:\n        f(x)",
    "B008": "def f(x=len('ab')):\n    return x",
    "B015": "def f(x):\n    x == 1\n    return x",
    "B018": "def f(x):\n    [x]\n    return x",
    "B020": "def f(x):\n    for x in x:\n        f(x)",
    "B023": "def f(x):\n    g = []\n    for i in x:\n        g.append(lambda: i)\n    return g",
    "B904": "def f(x):\n    try:\n        f(x)\n    except KeyError:\n        raise ValueError(x)",
    "B905": "def f(x):\n    return list(zip(x, x))",
    "S102": "def f(x):\n    exec('x == None')",
    "S307": "def f(x):\n    return eval('x == None')",
    "E401": "def f(x):\n    import ast, json\n    return ast, json",
    "E501": f"def f(x):\n    return {'x + ' * 30}x",
    "E701": "def f(x):\n    if x: return 1\n    return 2",
    "E702": "def f(x):\n    y = x; return y",
    "E703": "def f(x):\n    return x;",
    "E711": "def f(x):\n    return x == None",
    "E712": "def f(x):\n    return 1 if x == True else 2",
    "E713": "def f(x):\n    return not 1 in x",
    "E714": "def f(x):\n    return not x is None",
    "E721": "def f(x):\n    return type(x) == type(1)",
    "E722": "def f(x):\n    try:\n        return f(x)\n    except:\n        return 1",
    "E731": "def f(x):\n    g = lambda y: y\n    return g(x)",
    "E741": "def f(x):\n    l = x\n    return l",
    "F401": "def f(x):\n    import ast\n    return x",
    "F541": "def f(x):\n    return x + f'a'",
    "F632": "def f(x):\n    return x is 'a'",
    "F811": "def f(x):\n    return x\n\n\ndef f(x):\n    return 1",
    "F841": "def f(x):\n    y = x",
    "SIM101": "def f(x):\n    return isinstance(x, int) or isinstance(x, str)",
    "SIM102": "def f(x):\n    if x:\n        if x > 1:\n            f(x)",
    "SIM103": "def f(x):\n    if x > 1:\n        return True\n    else:\n        return False",
    "SIM108": "def f(x):\n    if x:\n        y = 1\n    else:\n        y = 2\n    return y",
    "SIM110": "def f(x):\n  for y in x:\n    if y:\n      return True\n  return False",
    "SIM114": "def f(x):\n    if x > 1:\n        f(x)\n    elif x > 2:\n        f(x)",
    "SIM118": "def f(x):\n    return 1 in x.keys()",
    "SIM201": "def f(x):\n    return not x == 1",
    "SIM208": "def f(x):\n    return not (not x)",
    "SIM210": "def f(x):\n    return True if x > 1 else False",
    "SIM300": "def f(x):\n    return 1 == x",
    "W291": "def f(x): \n    return x",
    "W293": "def f(x):\n    y = x\n  \n    return y",
    "W605": "def f(x):\n    return x + '\\d'",
}
"""For each rule of the rubric a text that breaks it, and no other."""

FINE = "def f(x):\n    return x + 1\n"


def deeply_nested(branches):
    body = "".join(f"    if x == {number}:\n        f(x)\n" for number in range(branches))
    return f"def f(x):\n{body}"


def test_each_rule_of_the_rubric_is_tried():
    assert set(BROKEN) == set(rubric().quality.most)


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_is_found_and_costs_half_of_its_most(rule):
    faults = faults_in("part", BROKEN[rule] + "\n")
    assert {fault.rule for fault in faults} == {rule}, faults
    [verdict] = judged({"part": BROKEN[rule] + "\n"})
    of = rubric().quality
    assert verdict.earned == pytest.approx(of.points - cost(of.most[rule], len(faults)))
    assert verdict.evidence[0].startswith(f"{rule} costs ")
    assert "part, line " in verdict.evidence[0]
    assert rule in verdict.advice


def test_code_that_breaks_no_rule_earns_all():
    [verdict] = judged({"part": FINE})
    assert verdict.is_whole
    assert verdict.advice == ""


@pytest.mark.parametrize(
    "silence",
    [
        "# ruff: noqa\n{}  # noqa\n",
        "# flake8: noqa\n{}  # noqa: E711\n",
        "# ruff: file-ignore[E711]\n{}\n",
        "# ruff: disable[E711]\n{}\n# ruff: enable[E711]\n",
        "# pylint: disable=all\n{}  # type: ignore\n",
    ],
)
def test_a_comment_that_silences_a_rule_is_ignored(silence):
    faults = faults_in("part", silence.format(BROKEN["E711"]))
    assert [fault.rule for fault in faults] == ["E711"]


def test_the_penalty_of_a_rule_flattens_out():
    of = rubric().quality
    earned = [
        judged({"part": "def f(x):\n" + "    f(x == None)\n" * times})[0].earned
        for times in (1, 2, 3, 500)
    ]
    most = of.most["E711"]
    assert earned == pytest.approx([of.points - most * share for share in (0.5, 0.75, 0.875, 1)])


def test_no_project_earns_less_than_nothing():
    texts = {f"part {rule}": f"{text}\n" for rule, text in BROKEN.items()}
    [verdict] = judged(texts)
    assert verdict.earned == 0
    assert len(verdict.evidence) == len(BROKEN)


def test_what_is_no_python_earns_nothing_and_says_where():
    [verdict] = judged({"part": "def f(:\n"})
    assert verdict.earned == 0
    assert verdict.evidence[0].startswith(f"{UNREADABLE} costs 20 of 20 points: part, line 1")


@pytest.mark.parametrize(("branches", "costs"), [(14, 0), (15, 2.5), (40, 2.5)])
def test_a_function_is_too_complex_from_the_edge_on(branches, costs):
    limit = rubric().quality.complexity.limit
    assert limit == 15
    [verdict] = judged({"part": deeply_nested(branches)})
    assert verdict.earned == rubric().quality.points - costs
    if costs:
        assert f"{COMPLEX} costs 2.5 of 20 points: part, line 1: f has" in verdict.evidence[0]
        assert verdict.advice == rubric().quality.complexity.advice


def test_methods_count_for_themselves_and_not_their_class():
    methods = "".join(f"    def f{n}(self, x):\n        return x or {n}\n\n" for n in range(20))
    assert faults_in("part", f"class A:\n{methods}".rstrip() + "\n") == []


HIDDEN = (
    "def part(x):\n    def inner(x):\n{}\n    return inner(x)\n",
    "def part(x):\n    class Inner:\n        def run(self, x):\n{}\n    return Inner()\n",
    "class Part:\n    class Inner:\n        def run(self, x):\n{}\n",
)


@pytest.mark.parametrize("around", HIDDEN)
def test_a_complex_function_within_another_or_in_a_class_within_is_found(around):
    inner = textwrap.indent(deeply_nested(15).partition("\n")[2], " " * 12)
    faults = faults_in("part", around.format(inner.rstrip()))
    assert [fault.rule for fault in faults] == [COMPLEX]


def test_settings_in_the_folder_decide_nothing(tmp_path, monkeypatch):
    (tmp_path / "ruff.toml").write_text('[lint]\nignore = ["E711"]\n')
    monkeypatch.chdir(tmp_path)
    assert [fault.rule for fault in faults_in("part", BROKEN["E711"] + "\n")] == ["E711"]


def test_where_ruff_cannot_be_run_nobody_is_judged(monkeypatch):
    monkeypatch.setattr(quality.sys, "executable", "/bin/false")
    with pytest.raises(quality.CheckError, match="ruff cannot be run"):
        faults_in("part", FINE)


def why_never(self, request):
    return self.reason_of(request)


def worded(request):
    return "" if request == None else _worded(request)  # noqa: E711


def _worded(request):
    return [l + 1 for l in request]  # noqa: E741


def finish_requests(self, request_ids, status):
    return worded(request_ids)


def append(self, token):
    return worded(token)


def test_what_a_part_uses_of_ones_own_is_read_with_it_and_once():
    given = {"Scheduler.finish_requests": finish_requests, "Answer.append": append}
    subject = LocalSubject(given)
    [verdict] = QualityCheck().on_pieces(subject, pieces_of(subject), seed=1)
    of = rubric().quality
    assert verdict.earned == of.points - of.most["E711"] / 2 - of.most["E741"] / 2
    assert "E711 costs 1.5 of 20 points: worded (for " in verdict.evidence[0]


WAYS = {
    "one": lambda request: request == None,  # noqa: E711
}
by_a_way = WAYS["one"]


def push(self, text):
    return by_a_way(text)


def test_a_helper_of_which_no_whole_text_is_at_hand_costs_nothing():
    subject = LocalSubject({"StopStrings.push": push})
    [verdict] = QualityCheck().on_pieces(subject, pieces_of(subject), seed=1)
    assert verdict.is_whole


@pytest.mark.parametrize(
    "source",
    [
        "def append(self, token):\n    time.sleep(0.01)\n",
        "def append(self, token):\n    from time import sleep as rest\n    rest(0.01)\n",
        "def append(self, token):\n    Thread(target=self.work).start()\n",
    ],
)
def test_a_part_that_waits_or_lets_others_work_earns_nothing_for_cpu_time(source):
    assert untimed({"Answer.append": source}).startswith("Answer.append, line 2: ")
    trusted = LocalSubject({}, 60.0)
    of = {each.item: each for each in performance.judged(trusted, 1, {"Answer.append": source})}
    assert of["cpu_time"].earned == 0
    assert of["model_calls"].is_whole


def tidy(self, request):
    return why_never(self, request)


def test_a_text_of_another_name_than_what_was_judged_is_a_decoy():
    part = "Scheduler.why_never"
    assert set(pieces_of(LocalSubject({part: why_never})).own) == {part}
    found = pieces_of(LocalSubject({part: tidy}))
    assert found.own == {}
    assert found.stand_ins[part] == "it is tidy, and not what you wrote as why_never"
