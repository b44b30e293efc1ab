"""Exercises that are written: what `check` says of right and wrong answers."""

import functools

import pytest
import torch

from course_utils import exercises
from course_utils.exercises import Exercise, Probe, judge, load, validate


def halve(x):
    """Half of x, (N,) to (N,)."""
    return x / 2


def probes(generator):
    return [
        Probe("zero stays zero", (torch.zeros(2),), "0 / 2 = 0"),
        Probe("halves every entry", (torch.rand(3, generator=generator) + 1,)),
    ]


def as_it_is(x):
    """Nothing is halved."""
    return x


def doubled(x):
    """Halve, do not double."""
    return x * 2


def less_one(x):
    """Halving divides; it does not subtract."""
    return x - 1


HALVE = Exercise("97.1", 2, halve, probes, wrong=(as_it_is, doubled, less_one))


def message(answer, exercise=HALVE):
    verdict = judge(exercise, answer)
    assert verdict.state == "failed"
    return verdict.message


@pytest.fixture
def chapter_97(tmp_path, monkeypatch):
    """A chapter 97 with exercises 97.1 (2 points) and 97.2 (1 point), and an empty score table."""
    import sys

    text = """
from course_utils.exercises import Exercise, Probe

def double(x):
    '''Twice x.'''
    return 2 * x

def probes(generator):
    return [Probe("one becomes two", (1.0,))]

EXERCISES = tuple(Exercise(f"97.{i}", 3 - i, double, probes) for i in (1, 2))
"""
    (tmp_path / "ch97.py").write_text(text)
    monkeypatch.setattr(exercises, "__path__", [*exercises.__path__, str(tmp_path)])
    monkeypatch.setattr(exercises, "POINTS", {})
    yield
    sys.modules.pop("course_utils.exercises.ch97", None)


# ---------------------------------------------------------------------------------------------- what a student is told
def test_a_right_answer_passes_with_its_points():
    verdict = judge(HALVE, lambda x: 0.5 * x)
    assert verdict.passed and verdict.message == "passed (2 of 2 points)"


def test_a_stub_is_not_attempted():
    def stub(x):
        raise NotImplementedError

    assert judge(HALVE, stub).state == "not attempted"


def test_giving_up_on_a_later_probe_is_a_wrong_answer():
    def partly(x):
        if x.any():
            raise NotImplementedError
        return x

    assert "NotImplementedError" in message(partly)


def test_an_operation_that_torch_lacks_is_not_mistaken_for_a_stub():
    def lacks(x):
        raise NotImplementedError('"op" not implemented for this type')

    assert "NotImplementedError in line" in message(lacks) and '"op" not implemented' in message(lacks)


def test_a_wrong_value_names_property_input_answer_and_hint():
    assert message(lambda x: x + float("nan")) == (
        "failed the test “zero stays zero”.\n"
        "For x = [0.0, 0.0] the answer was [nan, nan], expected [0.0, 0.0].\n"
        "Hint: 0 / 2 = 0\n"
        'To repeat it: from course_utils.exercises import case; args = case("97.1", 0)'
    )


def test_what_is_said_is_the_same_every_time():
    assert message(lambda x: x) == message(lambda x: x) and "halves every entry" in message(lambda x: x)


def test_an_exception_is_shown_with_type_message_and_the_students_line():
    def broken(x):
        y = x + torch.zeros(5)
        return y

    said = message(broken)
    assert "RuntimeError in line" in said and "`y = x + torch.zeros(5)`" in said and "must match the size" in said
    assert "`y = x + torch.zeros(5)`" in message(torch.no_grad()(broken))  # behind a decorator too


def test_leaving_the_interpreter_is_caught_and_ctrl_c_is_not():
    def leaves(x):
        raise SystemExit(0)

    def interrupted(x):
        raise KeyboardInterrupt

    assert "SystemExit" in message(leaves)
    with pytest.raises(KeyboardInterrupt):
        judge(HALVE, interrupted)


def test_a_signature_that_does_not_fit_is_a_wrong_answer():
    assert "TypeError" in message(lambda: 1)
    assert "A function was expected, and check got an int" in message(3)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: None, "None (is a `return` missing?)"),
        (lambda x: (x / 2).tolist(), "2 values in a list, expected a torch.Tensor"),
        (lambda x: (x / 2).numpy(), "a ndarray, expected a torch.Tensor"),
        (lambda x: (x / 2, x), "2 values in a tuple, expected a torch.Tensor"),
        (lambda x: 0.0, "a float, expected a torch.Tensor"),
        (lambda x: (x / 2).sum(), "the shape (), expected (2,)"),
        (lambda x: (x / 2)[None], "the shape (1, 2), expected (2,)"),
        (lambda x: (x / 2).long(), "whole numbers (torch.int64), expected floating-point numbers"),
        (lambda x: x > 1, "True/False values (torch.bool), expected floating-point numbers"),
        (lambda x: (x / 2).to_sparse(), "stored as torch.sparse_coo, expected a torch.Tensor"),
        (lambda x: (x / 2).to("meta"), "on the device meta, expected cpu"),
    ],
)
def test_type_shape_and_kind_are_named(answer, said):
    assert said in message(answer)


def test_changing_an_input_in_place_is_noticed():
    def in_place(x):
        return x.add_(1).sub_(1).div_(2)

    zeros_only = Exercise("97.1", 2, halve, lambda g: [Probe("p", (torch.ones(2),))])
    assert "changed its input in place" in message(in_place, zeros_only)
    listed = Exercise("97.1", 1, lambda xs: len(xs), lambda g: [Probe("p", ([torch.ones(1), torch.ones(2)],))])
    assert "changed its input in place" in message(lambda xs: len(xs) + 0 * len(xs.pop()) - 0 + 0, listed)


def test_probes_do_not_share_their_inputs():
    """An answer that keeps and changes what it was given cannot spoil a later probe or the expected value."""
    kept = []

    def keeps(x):
        for old in kept:
            old.fill_(7)
        kept.append(x)
        return x / 2

    assert judge(HALVE, keeps).passed


def test_what_a_function_prints_is_held_back_and_shown_only_on_failure(capsys):
    def loud(x):
        print("look", x.sum().item())
        return x / 2

    assert judge(HALVE, loud).passed and capsys.readouterr().out == ""
    assert "Your function printed: look 0.0" in message(lambda x: loud(x) + 1)


def test_an_object_equal_to_everything_fools_nobody():
    class Everything:
        def __eq__(self, other):
            return True

        def __getattr__(self, name):
            return self

        def __call__(self, *args, **kwargs):
            return self

    class Lying(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function is torch.isclose:
                return torch.ones(2, dtype=torch.bool)
            return super().__torch_function__(function, types, args, kwargs or {})

    assert "an Everything, expected" in message(lambda x: Everything())
    assert "a Lying, expected" in message(lambda x: torch.zeros(2).as_subclass(Lying))


def test_numbers_and_scalar_tensors_stand_for_each_other():
    number = Exercise("97.1", 1, lambda x: 2.0 * x, lambda g: [Probe("p", (3.0,))])
    for right in (lambda x: 6.0, lambda x: 6, lambda x: torch.tensor(6.0), lambda x: torch.tensor(6.0).double()):
        assert judge(number, right).passed
    assert "True/False" in message(lambda x: True, number)
    assert "the answer was 5.0, expected 6.0" in message(lambda x: 5.0, number)
    scalar = Exercise("97.1", 1, lambda x: x.sum(), lambda g: [Probe("p", (torch.ones(6),))])
    assert judge(scalar, lambda x: 6.0).passed


def test_tuples_are_compared_part_by_part():
    both = Exercise("97.1", 1, lambda x: (x, -x), lambda g: [Probe("p", (torch.ones(1),))])
    assert judge(both, lambda x: (x, -x)).passed
    assert "value 2 of 2 in the answer was [1.0], expected [-1.0]" in message(lambda x: (x, x), both)
    assert "the answer was one tensor of shape (1,), expected 2 values" in message(lambda x: x, both)


def weighted_square(x, y):
    """x squared times y, (N,) and (N,) to (N,)."""
    return x * x * y


def gradient_probes(generator):
    return [Probe("a gradient can pass to x", (torch.tensor([1.0, 2.0], requires_grad=True), torch.ones(2)))]


SQUARE = Exercise("97.1", 1, weighted_square, gradient_probes)


@pytest.mark.parametrize(
    "right",
    [
        lambda x, y: y * x**2,
        lambda x, y: (y.sqrt() * x).square() + 0 * y,
        lambda x, y: torch.stack([a * a * b for a, b in zip(x, y, strict=True)]),
        lambda x, y: torch.zeros(2).index_put((torch.arange(2),), x.log().mul(2).exp() * y),
    ],
)
def test_where_an_input_asks_for_a_gradient_a_right_answer_may_be_written_in_any_way(right):
    assert judge(SQUARE, right).passed


@pytest.mark.parametrize(
    "cut",
    [
        lambda x, y: (x * x * y).detach(),
        lambda x, y: torch.tensor((x * x * y).tolist(), requires_grad=True),
        lambda x, y: torch.nn.Parameter(x * x * y),
        torch.no_grad()(weighted_square),
        lambda x, y: [z := x * x * y, z.sum().backward()][0],  # the graph is used up
        lambda x, y: x.log().exp_().mul_(x).mul_(y),  # what exp kept for its derivative is overwritten
    ],
)
def test_a_gradient_that_cannot_pass_is_a_wrong_answer(cut):
    said = "the answer had the right values, but no gradient can pass back through it to the input."
    assert said in message(cut, SQUARE)


def test_a_wrong_gradient_behind_right_values_is_shown():
    said = "the derivative of the sum of the answer was [1.0, 2.0], expected [2.0, 4.0]."
    assert said in message(lambda x, y: x * x.detach() * y, SQUARE)
    pair = Exercise("97.1", 1, lambda x, y: (x, x * x), gradient_probes)
    assert judge(pair, lambda x, y: (1 * x, x**2)).passed
    assert "sum of value 2 of 2 in the answer was [1.0, 2.0]" in message(lambda x, y: (x, x * x.detach()), pair)


def test_an_input_that_asks_for_a_gradient_may_not_be_changed_either():
    assert "changed its input in place" in message(lambda x, y: x.mul_(x).mul_(y), SQUARE)


def test_tolerance_is_relative_and_close_numbers_are_told_apart():
    big = Exercise("97.1", 1, lambda x: x, lambda g: [Probe("p", (1000.0,))], tolerance=1e-6)
    assert judge(big, lambda x: x + 0.9e-3).passed
    assert "the answer was 1000.0021, expected 1000.0." in message(lambda x: x + 2.1e-3, big)


def test_long_inputs_show_the_row_of_the_first_wrong_entry():
    rows = Exercise("97.1", 1, lambda x: x.sum(-1), lambda g: [Probe("p", (torch.arange(20.0).view(5, 4),))])

    def second_wrong(x):
        return x.sum(-1) + torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])

    said = message(second_wrong, rows)
    assert "For x[1] = [4.0, 5.0, 6.0, 7.0] entry [1] of the answer was 23.0, expected 22.0 (1 of 5 wrong)." in said


def test_rows_that_do_not_belong_to_the_wrong_entry_are_not_shown():
    args = torch.ones(3, 5), torch.ones(5, 4)
    weighted = Exercise("97.1", 1, lambda x, w: x @ w.sum(-1), lambda g: [Probe("p", args)])
    said = message(lambda x, w: x @ w.sum(-1) + 1, weighted)
    assert "For x[0] = [1.0, 1.0, 1.0, 1.0, 1.0], w of shape (5, 4) entry [0]" in said


def test_answers_that_draw_random_numbers_see_the_references_and_the_notebook_keeps_its_own():
    noisy = Exercise("97.1", 1, lambda x: x + torch.randn(2), lambda g: [Probe("p", (torch.zeros(2),))])
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        assert judge(noisy, lambda x: torch.randn(2) + x).passed
        assert torch.equal(torch.get_rng_state(), before)


def test_inputs_are_fresh_for_another_seed():
    seen = []

    def spy(x):
        seen.append(x)
        return x / 2

    for seed in (0, 0, 1):
        judge(HALVE, spy, seed)
    assert torch.equal(seen[1], seen[3]) and not torch.equal(seen[1], seen[5])


# ------------------------------------------------------------------------------------------------------ check and score
def test_check_and_score_print_plain_lines(chapter_97, capsys):
    exercises.score()
    exercises.check("97.1", lambda x: x + x)
    exercises.check("97.2", lambda x: x)
    exercises.score()
    exercises.check("97.2", lambda x: x * 2)
    exercises.score()
    assert capsys.readouterr().out.splitlines() == [
        "○ No exercise has been checked yet.",
        "✓ Exercise 97.1: passed (2 of 2 points)",
        "✗ Exercise 97.2: failed the test “one becomes two”.",
        "For x = 1.0 the answer was 1.0, expected 2.0.",
        'To repeat it: from course_utils.exercises import case; args = case("97.2", 0)',
        "○ Chapter 97: 2 of 3 points. Still open: 97.2.",
        "✓ Exercise 97.2: passed (1 of 1 point)",
        "✓ Chapter 97: 3 of 3 points. All exercises passed.",
    ]


def test_a_later_wrong_answer_takes_the_points_back(chapter_97, capsys):
    exercises.check("97.1", lambda x: x + x)
    exercises.check("97.1", lambda x: x)
    exercises.score()
    assert "0 of 3 points" in capsys.readouterr().out


def test_in_a_notebook_the_line_is_html_with_nothing_left_to_run(chapter_97, monkeypatch):
    import IPython
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: shown.append(bundle))

    def hostile(x):
        raise ValueError("<script>alert(1)</script>")

    exercises.check("97.1", hostile)
    assert "&lt;script&gt;" in shown[0]["text/html"] and "<script>" not in shown[0]["text/html"]
    assert shown[0]["text/plain"].startswith("✗ Exercise 97.1: failed")


def test_unknown_exercises_and_chapters_say_what_there_is(chapter_97):
    with pytest.raises(ValueError, match=r"no exercise '97.9'; there are 97.1, 97.2"):
        exercises.check("97.9", halve)
    with pytest.raises(ValueError, match="chapter 96 has no exercises"):
        load(96)


# ------------------------------------------------------------------------------------------------------------- validate
def test_a_sound_exercise_has_no_faults():
    assert validate(HALVE) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"wrong": HALVE.wrong[:2]}, "at least three wrong answers are needed, got 2"),
        ({"wrong": (*HALVE.wrong, halve)}, "the wrong answer halve does not fail"),
        ({"wrong": (*HALVE.wrong, lambda x: x - 5)}, "the wrong answer <lambda> has no docstring"),
        ({"points": 0}, "points must be a whole number above 0"),
        ({"reference": lambda x: x / 2}, "the reference has no docstring"),
        ({"reference": functools.wraps(halve)(lambda x: x.div_(2))}, "the reference itself: failed"),
        ({"probes": lambda g: [Probe("zero", (torch.zeros(2),))]}, "does not fail"),
        ({"probes": lambda g: []}, "the stub does not count as not attempted"),
    ],
)
def test_validate_finds_what_is_unsound(change, fault):
    fields = {name: getattr(HALVE, name) for name in ("id", "points", "reference", "probes", "wrong")}
    assert any(fault in line for line in validate(Exercise(**fields | change)))


# ------------------------------------------------------------------------------------------- surroundings and repeating
def test_a_new_tensor_is_of_the_kind_of_the_inputs_and_the_default_is_put_back():
    def in_new_tensor(x):
        y = torch.zeros(len(x))  # no dtype named
        return y.copy_(x / 2).addmv(torch.zeros(len(x), len(x)), x)

    double = Exercise("97.1", 1, halve, lambda g: [Probe("p", (torch.rand(3, generator=g, dtype=torch.float64),))])
    assert judge(double, in_new_tensor).passed and torch.get_default_dtype() == torch.float32

    def careless(x):
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(False)
        return x / 2

    assert judge(HALVE, careless).passed
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


def test_gradients_are_on_inside_a_check_whatever_the_notebook_says():
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            assert "no gradient can pass back" in message(lambda x, y: (x * x * y).detach(), SQUARE)
            assert judge(SQUARE, weighted_square).passed


def test_mixed_dtypes_are_told_what_to_do():
    double = Exercise("97.1", 1, halve, lambda g: [Probe("p", (torch.rand(3, generator=g, dtype=torch.float64),))])
    said = message(lambda x: torch.zeros(3, 3, dtype=torch.float32) @ x, double)
    assert "the inputs are float64. Make new tensors like them: torch.zeros_like(x)" in said


def test_inputs_are_shown_with_all_their_digits_and_can_be_had_again(chapter_97):
    value = torch.tensor([1 / 3, 1e-17, -0.1], dtype=torch.float64)
    shown = message(lambda x: x, Exercise("97.1", 1, halve, lambda g: [Probe("p", (value,))]))
    assert f"For x = {value.tolist()} the answer was" in shown
    single = torch.tensor([0.1, 1 / 3])  # float32: the shortest digits that give this float32
    shown = message(lambda x: x, Exercise("97.1", 1, halve, lambda g: [Probe("p", (single,))]))
    assert "For x = [0.1, 0.33333334] the" in shown
    assert exercises.case("97.1", 0) == (1.0,)
    with pytest.raises(ValueError, match="exercise 97.1 has the cases 0 to 0, got 3"):
        exercises.case("97.1", 3)


def test_the_hint_is_that_of_the_mistake_and_not_of_the_probe():
    def thrice(x):
        """Three is too much."""
        return 3 * x

    def shifted(x):
        """Nothing is added."""
        return x / 2 + 1

    exercise = Exercise("97.1", 1, halve, probes, wrong=(thrice, shifted, lambda x: -x))
    assert "Hint: Three is too much." in message(lambda x: x + x + x, exercise)
    assert "Hint: Nothing is added." in message(lambda x: (x + 2) / 2, exercise)
    assert "Hint: 0 / 2 = 0" in message(lambda x: x + 5, exercise)  # no known mistake: the hint of the probe
    assert any("behaves like another" in line for line in validate(
        Exercise("97.1", 1, halve, probes, wrong=(thrice, functools.wraps(shifted)(lambda x: x * 3), shifted))))


def test_a_wrong_form_gets_a_hint_about_its_form():
    rows = Exercise("97.1", 1, _row_sums, lambda g: [Probe("p", (torch.ones(2, 3),), "about sums")])
    assert "Hint: about sums" in message(lambda x: x.sum(1) + 1, rows)
    said = message(lambda x: x.sum(), rows)
    assert "Name the one that should go, as in .sum(1). The docstring says: Returns (N,)." in said
    assert "torch.from_numpy" in message(lambda x: x.sum(1).numpy(), rows)


def _row_sums(x):
    """Sums of rows.

    Returns (N,).
    """
    return x.sum(1)
