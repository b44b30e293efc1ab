"""A student's page of feedback in a real browser: no script runs, nothing is asked for."""

import pytest

from course_utils.commands.report import feedback

pytestmark = pytest.mark.browser
EVIL = (
    "<script>document.title = 'taken'</script><img src='http://127.0.0.1:9/x' onerror=\"document.title = 'taken'\">"
    "<meta http-equiv='refresh' content='0; url=http://127.0.0.1:9/away'><a href='javascript:alert(1)'>x</a>"
    "<base href='http://127.0.0.1:9/'><style>@import 'http://127.0.0.1:9/s.css'</style>"
)


def test_what_a_student_wrote_runs_no_script_makes_no_request_and_leads_nowhere(page, tmp_path):
    exercise = {"id": "1.1", "kind": "write", "points": 2, "practice": False, "given": ""}
    plan = {"chapters": {"01": {"stem": f"01_{EVIL}", "exercises": [exercise]}}}
    result = {"state": "failed", "points": 0, "of": 2, "property": EVIL, "hint": EVIL, "found": EVIL}
    mine = {"01": {"state": "graded", "note": EVIL, "exercises": {"1.1": result}, "sources": {"1.1": EVIL}}}
    path = tmp_path / "page.html"
    path.write_text(feedback.page(EVIL, plan, mine, {"01": {"1.1": [["text", EVIL], ["png", EVIL]]}}), encoding="utf-8")
    asked, told = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    page.locator("details").click()
    page.wait_for_timeout(300)
    assert asked == [path.as_uri()] and page.url == path.as_uri() and not told and not page.troubles
    assert page.title().startswith("Feedback for <script>") and page.locator("a, img, script").count() == 0
    assert "document.title" in page.locator("pre").first.inner_text()
