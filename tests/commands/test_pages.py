"""LaTeX to MathML, and the files of a run."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from course_utils import files
from course_utils.commands.pages import index, laws
from course_utils.commands.pages.mathml import MathError, convert, equation
from course_utils.commands.run import report, verify

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def shape(tex):
    """MathML without its TeX copy, its spacing attributes and its outermost row."""
    found = re.sub(r"<annotation.*?</annotation>|</?semantics>|</?math[^>]*>", "", convert(tex), flags=re.DOTALL)
    found = re.sub(r' (lspace|rspace|stretchy|form|movablelimits|largeop|separator|fence|symmetric)="[^"]*"', "", found)
    return re.sub(r"^<mrow>(.*)</mrow>$", r"\1", found)


@pytest.mark.parametrize(
    "tex, expected",
    [
        ("x_i^2", "<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>"),
        ("x^2_i", "<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>"),
        ("x^10", "<msup><mi>x</mi><mn>1</mn></msup><mn>0</mn>"),
        (r"\tfrac12", '<mstyle displaystyle="false" scriptlevel="0"><mfrac><mn>1</mn><mn>2</mn></mfrac></mstyle>'),
        (r"\mathrm{KL}", "<mi>KL</mi>"),
        (r"\mathbb{R}\mathcal N", "<mi>ℝ</mi><mi>𝒩</mi>"),
        (r"\boldsymbol{\mu}\mathbf{x}", "<mi>𝝁</mi><mi>𝐱</mi>"),
        (r"\Sigma\sigma", '<mi mathvariant="normal">Σ</mi><mi>σ</mi>'),
        (r"\sum_i", "<munder><mo>∑</mo><mi>i</mi></munder>"),
        (r"\int_0^1", "<msubsup><mo>∫</mo><mn>0</mn><mn>1</mn></msubsup>"),
        (r"\operatorname*{arg\,max}_\theta", "<munder><mo>arg\N{THIN SPACE}max</mo><mi>θ</mi></munder>"),
        (
            r"\underbrace{x}_{\text{a b}}",
            '<munder><munder accentunder="true"><mi>x</mi><mo>⏟</mo></munder><mrow><mtext>a b</mtext></mrow></munder>',
        ),
        (r"\hat x", '<mover accent="true"><mi>x</mi><mo>ˆ</mo></mover>'),
        (r"\{0,1\}", '<mo>{</mo><mn>0</mn><mo>,</mo><mspace width="0.1667em"/><mn>1</mn><mo>}</mo>'),
        ("a<b", "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
        (r"\left(\frac{a}{b}\right)", "<mo>(</mo><mfrac><mi>a</mi><mi>b</mi></mfrac><mo>)</mo>"),
    ],
)
def test_latex_becomes_the_mathml_it_means(tex, expected):
    assert shape(tex) == expected


def test_a_minus_is_a_sign_or_an_operation_by_what_stands_before_it():
    def space(tex):
        return re.findall(r'<mo[^>]*lspace="([^"]*)"[^>]*>−', convert(tex))

    assert space("a-b") == ["0.2222em"] and space("-a") == ["0"] and space("x=-1") == ["0"] and space("(-a)") == ["0"]
    assert space("e^{a-b}") == ["0"]  # TeX sets no such space in exponents
    assert space(r"\begin{aligned}x&-y\end{aligned}") == ["0.2222em"]


@pytest.mark.parametrize("tex", ["a =: b", "a := b", "a \\to = b", "x <> y", "f : = g"])
def test_relations_side_by_side_touch(tex):
    spaces = re.findall(r'lspace="([^"]*)" rspace="([^"]*)"', convert(tex))
    assert spaces == [("0.2778em", "0"), ("0", "0.2778em")]


@pytest.mark.parametrize(
    "tex, sign",
    [
        (r"\circlearrowleft", "↺"),
        (r"\circlearrowright", "↻"),
        (r"\trianglelefteq", "⊴"),
        (r"\trianglerighteq", "⊵"),
        (r"a \bmod b", "mod"),
        (r"a \pmod{n}", "mod"),
        (r"a \pmod n", "mod"),
    ],
)
def test_more_signs(tex, sign):
    assert sign in convert(tex)


@pytest.mark.parametrize("tex", [r"\cancel{x+y}", r"\bcancel x", r"\frac{\xcancel{a}}{b}"])
def test_what_cancels_is_struck_through(tex):
    assert "linear-gradient" in convert(tex) and "menclose" not in convert(tex), "browsers do not draw menclose"


def test_log_keeps_its_distance_from_letters_but_not_from_brackets():
    assert "mspace" in shape(r"\log x") and "mspace" not in shape(r"\log(x)") and shape(r"a\log x").count("mspace") == 2


@pytest.mark.parametrize(
    "tex, message",
    [
        (r"\frobnicate x", r"\\frobnicate is not known"),
        (r"\frac{a}", "missing at the end"),
        ("{a", "expected }"),
        ("a}", "unexpected }"),
        (r"\left( a", "expected"),
        (r"\begin{aligned} a", "expected"),
        (r"\begin{tikz}\end{tikz}", "environment tikz is not known"),
        (r"\tag{1} a \tag{2}", "two tags"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(tex, message):
    with pytest.raises(MathError, match=message):
        equation(tex)


def test_a_tag_is_taken_out_of_the_formula():
    element, tag = equation(r"a = b . \tag{4.3}")
    assert tag == "4.3" and "4.3" not in element and 'display="block"' in element


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_chapters_is_understood(path):
    refused = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
            for block, inline in re.findall(r"\$\$(.*?)\$\$|(?<![\\$])\$([^$]+)\$", text, flags=re.DOTALL):
                try:
                    equation(block) if block else convert(inline)
                except MathError as error:
                    refused.append(str(error))
    assert refused == []


# files and numbers


def test_a_file_is_whole_or_old(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    files.write_json(path, {"a": float("nan"), "b": [float("inf"), 1]})
    assert json.loads(path.read_text()) == {"a": "nan", "b": ["inf", 1]}

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        files.write_json(path, {"a": 1})
    assert "nan" in path.read_text() and [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_floor_that_is_no_number_or_a_bad_value_is_missed():
    floors = {"01": {"smoke": {"toy": {"a": {"min": 0.5}, "b": {"max": 2}, "c": {"min": 0}}}}}
    given = {"budget": "smoke", "dataset": "toy"}
    result = {"metrics": {"a": 0.5, "b": "nan"}, "given": given, "environment": {}}
    missed, table = report.judge("01_x", result, floors)
    assert [m["metric"] for m in missed] == ["b", "c"] and set(table) == {"a", "b", "c"}
    assert report.judge("01_x", result | {"given": given | {"budget": "full"}}, floors) == ([], {})
    assert report.judge("02_x", result, floors) == ([], {})


def summary(folder, name, metrics, status="passed", seconds=1.0):
    entry = {"status": status, "metrics": metrics, "wall_seconds": seconds}
    (folder / name).mkdir()
    files.write_json(folder / name / "metrics.json", {"schema": 1, "chapters": {"01_x": entry}})
    return str(folder / name)


@pytest.mark.parametrize(
    "a, b, options, same",
    [
        ({"nll": 1.0, "n": 3}, {"nll": 1.0005, "n": 3}, [], True),
        ({"nll": 1.0}, {"nll": 1.01}, [], False),
        ({"nll": 1.0}, {"nll": 1.01}, ["--rtol", "0.1"], True),
        ({"gap": 0.0}, {"gap": 1e-4}, [], False),
        ({"gap": 0.0}, {"gap": 1e-4}, ["--atol", "1e-3"], True),
        ({"n": 10_000}, {"n": 10_001}, ["--rtol", "1"], False),
        ({"n": 1}, {"n": 1.0}, [], True),
        ({"best": "cnn"}, {"best": "lda"}, [], False),
        ({"a": 1.0, "b": 2.0}, {"a": 1.0}, [], False),
        ({"a": 1.0}, {"a": "nan"}, [], False),
        ({"a": "nan"}, {"a": "nan"}, [], True),
    ],
)
def test_verify_compares_numbers_and_not_wall_times(tmp_path, a, b, options, same):
    left, right = summary(tmp_path, "a", a), summary(tmp_path, "b", b, seconds=99.0)
    done = CliRunner().invoke(verify.main, [left, right, *options])
    assert done.exit_code == (0 if same else 1), done.output
    assert ("agree" in done.output) == same


@pytest.mark.parametrize("left, right, said, unsaid", [
    ({"seed": 0}, {"seed": 1}, ["The seed differs: 0 in A, 1 in B.", "--rtol 0.1 fits"], ["different experiments"]),
    ({"budget": "smoke"}, {"budget": "class"}, ["The budget differs: smoke in A, class in B."], ["fits"]),
    ({"dataset": "digits"}, {"dataset": "mnist"}, ["dataset differs", "different experiments"], ["fits"]),
    ({"seed": 0, "dataset": "digits"}, {"seed": 1, "dataset": "mnist"}, ["seed differs", "dataset differs"], ["fits"]),
    ({"seed": 3, "budget": "smoke"}, {"seed": 3, "budget": "smoke"}, [], ["differs", "fits", "experiments"]),
    ({}, {"seed": 1}, [], ["differs", "fits"]),
])  # fmt: skip
@pytest.mark.parametrize("same", [True, False])
def test_verify_says_what_was_asked_differently_and_which_tolerance_fits(tmp_path, left, right, said, unsaid, same):
    for folder, parameters, number in ((tmp_path / "a", left, 1.0), (tmp_path / "b", right, 1.0 if same else 2.0)):
        entry = {"status": "passed", "metrics": {"nll": number}, "parameters": parameters}
        folder.mkdir()
        files.write_json(folder / "metrics.json", {"schema": 1, "chapters": {"01_x": entry}})
    done = CliRunner().invoke(verify.main, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == (0 if same else 1)
    assert all(words in done.output for words in said) and not any(words in done.output for words in unsaid)


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", '{"chapters": []}', '{"chapters": {"a": 1}}', "[" * 100_000,
                                     '{"chapters": {"a": {"status": "passed"}}}', '{"chapters": {"a": {"status": 1,'
                                     ' "metrics": {}}}}', '{"chapters": {"a": {"status": "passed", "metrics": "x"}}}'],
                         ids=lambda text: text[:40])  # fmt: skip
def test_verify_refuses_what_is_no_summary(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    done = CliRunner().invoke(verify.main, [str(tmp_path), str(tmp_path)])
    assert done.exit_code == 1 and "is not a metrics.json of `course run`" in done.output


def test_half_a_letter_is_written_as_json_writes_it(tmp_path):
    files.write_json(tmp_path / "state.json", {"text": "\ud800"})
    assert json.loads((tmp_path / "state.json").read_text()) == {"text": "\ud800"}


def test_verify_names_what_differs(tmp_path):
    left = summary(tmp_path, "a", {"nll": 1.0, "only": 2})
    right = summary(tmp_path, "b", {"nll": 1.5}, status="failed")
    done = CliRunner().invoke(verify.main, [left, right])
    for words in ("nll", "0.5", "only", "missing", "status", "failed", "3 differences"):
        assert words in done.output
    broken = tmp_path / "a" / "metrics.json"
    broken.write_text("[]")
    assert "is not a metrics.json" in CliRunner().invoke(verify.main, [left, right]).output
    assert "no results at" in CliRunner().invoke(verify.main, [str(tmp_path / "none"), right]).output


LAWS = {
    "9.1": [{"law": "close", "what": "a < b & c", "found": "off by 0, 1e-06 allowed; 1 number"},
            {"law": "fails", "what": "refuted, as it must be: the sign is free"}],
}  # fmt: skip


@pytest.fixture
def run_of_one(tmp_path):
    """A folder with an executed chapter 09 and the summary of its run."""
    text = "# Nine\n$$ a = b \\tag{9.1} $$\n$$ \\nosuch \\tag{9.2} $$\n$$ c \\tag{9.3} $$\n$$ d $$"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)]), tmp_path / "09_nine.ipynb")
    entry = {"status": "passed", "metrics": {}, "floors": {}, "wall_seconds": 1.0, "cells": 1, "parameters": {},
             "failure": None, "notes": [], "laws": LAWS}  # fmt: skip
    return tmp_path, {"written": "now", "versions": {}, "chapters": {"09_nine": entry, "10_gone": entry | {"laws": {}}}}


def test_the_page_of_laws_shows_each_equation_its_laws_and_the_mistakes_they_refuse(run_of_one):
    out, summary = run_of_one
    kept = {"9.1": {"formula": "x", "law": "y", "caught": ["the ½ & more"]}, "9.2": {"formula": "x", "law": "y"}}
    written = laws.page(summary, out, kept)
    first, second, third = re.findall(r'<article class="law" id="law-(9\.\d)">(.*?)</article>', written, re.DOTALL)
    assert (first[0], second[0], third[0]) == ("9.1", "9.2", "9.3")
    assert "<math" in first[1] and 'href="09_nine.html#eq-9.1">(9.1)</a>' in first[1]
    assert "a &lt; b &amp; c <small>off by 0, 1e-06 allowed; 1 number</small>" in first[1]
    assert "<s>the sign is free</s> <small>refuted</small>" in first[1] and "the ½ &amp; more" in first[1]
    assert r'<code class="tex"> \nosuch' in second[1] and "Not run." in second[1]
    assert "A definition" in third[1] and "<h2>Nine</h2>" in written and "10_gone" not in written


def test_the_page_of_a_run_leads_to_the_laws(run_of_one):
    out, summary = run_of_one
    assert '<a href="laws.html">The laws: 2 checks, equation by equation</a>' in index.page(summary, out)
    del summary["chapters"]["09_nine"]
    assert "laws.html" not in index.page(summary, out)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_run_needs_no_ledger(tmp_path, content):
    if content is not None:
        (tmp_path / "ledger.json").write_text(content)
    assert report.read_ledger(tmp_path / "ledger.json") == {}
