"""The page as a reader meets it: whole, offline, harmless, the same every time."""

from __future__ import annotations

import builtins
import re
from html.parser import HTMLParser

import pytest

from sentryfuse.errors import ConfigError, InputError
from sentryfuse.report import render_report, write_report

SECTIONS = ("accuracy", "cost", "replay", "kept", "training", "data", "made")


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "use", "path", "rect", "circle", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def test_the_page_tells_the_whole_story(full_page):
    text = " ".join(" ".join(Page(full_page).text).split())
    assert [name for name in SECTIONS if f'<section id="{name}">' in full_page] == list(SECTIONS)
    for number in (
        "At 80 % pruning the model keeps 0.89 of 0.91 accuracy and answers 3.1 times as fast "
        "(p95 0.83 ms instead of 2.60 ms).",
        "With one sensor missing it averages 0.83 (unpruned: 0.85); the worst is 0.80, without right_arm.",
        "40 % 0.908 0.848 0.818 right_arm",  # accuracy table
        "60 % 9.8 586,000 2.38 1.18 1.27 2.0x 1.00 1.10 0.02 12.4",  # cost table
        "200 windows streamed, 195 answered (8 of them degraded), 5 refused, 12 switches",
        "19 with 480 windows each",
        "5,700 windows, 5 subjects",
        "CC BY 4.0",
        "sentryfuse demo --out demo --data wearable",
        "onnxruntime, threads: 1",
        "118 s",
        "chance 0.05",
    ):
        assert number in text, number


def test_the_page_loads_nothing(full_page):
    html = full_page
    page = Page(html)
    assert "http://" not in html
    assert "https://" not in html
    assert not {"script", "link", "iframe", "img", "object", "embed"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert all(not key.startswith("on") for key in attributes)
        assert (attributes.get("href") or "#").startswith("#")
        assert "url(" not in re.sub(r"url\(#", "", attributes.get("style") or "")
    assert "default-src 'none'" in html


def test_every_reference_inside_the_page_finds_its_target_and_no_id_occurs_twice(full_page):
    ids = [attributes["id"] for _, attributes in Page(full_page).tags if "id" in attributes]
    referred = set(re.findall(r'(?:url\(|href=")#([^")]+)', full_page))
    assert len(referred) > 5
    assert referred <= set(ids)
    assert len(ids) == len(set(ids))


def test_hostile_names_are_shown_and_not_obeyed(story):
    names = ["<img src=x onerror=alert(1)>", "a & b", '"quoted" $x_1$', "心电图", "z" * 80]
    results = story(names)
    results["plans"] = results["plans"][:6]
    results["title"] = "<script>alert(1)</script>"
    results["model"]["</style><b>"] = "</section><i>"
    page = Page(render_report(results))
    assert not {"img", "script", "b", "i"} & {tag for tag, _ in page.tags}
    text = "".join(page.text)
    for shown in (*names, "<script>alert(1)</script>", "</style><b>", "</section><i>"):
        assert shown in text


def test_the_same_results_give_the_same_bytes_and_one_whole_file(story, full_page, tmp_path):
    write_report(story(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == full_page.encode()
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_several_scorers_have_a_line_and_a_row_each(story):
    html = render_report({"evaluation": story(scorers=("magnitude", "gate"))["evaluation"]})
    text = " ".join(" ".join(Page(html).text).split())
    assert "gate, lowest to highest with one missing" in text
    assert "80 % magnitude 0.689 0.629 0.599 right_arm" in text
    assert "80 % gate 0.894 0.834 0.804 right_arm" in text


def test_nobodys_matplotlibrc_changes_the_page(story):
    import matplotlib

    results = {"evaluation": story()["evaluation"]}
    plain = render_report(results)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert render_report(results) == plain
        assert dict(matplotlib.rcParams) == before


def test_text_in_figures_stays_text_and_takes_the_colours_of_the_page(story):
    html = render_report({"evaluation": story()["evaluation"]})
    figure = html[html.index("<svg") : html.index("</svg>")]
    assert "all sensors</text>" in figure
    assert "var(--c1)" in figure
    assert "#0072b2" not in figure


@pytest.mark.parametrize(
    ("sections", "gone"),
    [
        (("made", "plans"), ["kept", "made"]),
        (("layout", "replay", "training"), ["replay", "kept", "training"]),
        (("data", "model", "bench", "layout"), ["kept", "data"]),  # costs were counted as well
    ],
)
def test_missing_sections_are_left_out_and_the_others_stay(story, sections, gone):
    results = story()
    results["plans"] = results["plans"][:1]
    for section in sections:
        del results[section]
    html = render_report(results)
    assert [name for name in SECTIONS if f'<section id="{name}">' not in html] == gone


def test_a_single_accuracy_is_enough_for_a_page():
    html = render_report({"evaluation": {"rows": [{"present": ["ecg"], "ratio": 0.0, "accuracy": 0.75}]}})
    assert "Without pruning, the model reaches 0.75 accuracy with all sensors." in html
    assert "<svg" not in html
    assert [name for name in SECTIONS if f'<section id="{name}">' in html] == ["accuracy"]


def test_a_model_with_very_many_blocks_still_fits(story):
    results = story()
    step = results["layout"]["steps"][0]
    blocks = [{**step["blocks"][1], "name": f"pair.{a}.{n}.ffn"} for a in range(20) for n in range(8)]
    for start in range(0, len(blocks), 8):
        results["layout"]["steps"].append({**step, "blocks": blocks[start : start + 8]})
    results["plans"] = results["plans"][:2]
    results["plans"][0]["kept"].update({block["name"]: [0, 1] for block in blocks})
    assert "pair</text>" in render_report(results)


@pytest.mark.parametrize("n_windows", [2, 5000])
def test_a_stream_may_be_short_or_long(story, n_windows):
    results = {key: story()[key] for key in ("evaluation",)}
    row = {"present": ["torso"], "status": "OK", "ratio": 0.5, "latency_ms": 1.0, "correct": True}
    results["replay"] = [{"t_s": float(n), **row} for n in range(n_windows)]
    html = render_report(results)
    assert f"{n_windows} windows streamed, {n_windows} answered, 0 refused" in html
    assert len(html) < 120_000


def test_a_stream_that_was_always_refused_has_a_page_too(story):
    results = {"evaluation": story()["evaluation"]}
    results["replay"] = [{"t_s": n, "present": [], "status": "REFUSED"} for n in range(3)]
    assert "3 windows streamed, 0 answered, 3 refused" in render_report(results)


def test_a_wrong_file_is_refused_before_anything_is_written(story, tmp_path):
    results = story()
    del results["evaluation"]["rows"][3]["accuracy"]
    with pytest.raises(InputError, match=r"evaluation\.rows\.3\.accuracy' is missing"):
        write_report(results, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_without_the_extra_the_error_says_what_to_install(story, monkeypatch, missing):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'sentryfuse\[report\]'"):
        render_report(story())


def test_accuracy_against_time_is_drawn_where_ratios_were_scored_and_timed(story, full_page):
    figure = full_page[full_page.index('<section id="cost">') :]
    figure = figure[figure.index("<svg") : figure.index("</svg>")]
    assert "one window, median [ms]" in figure
    assert "one sensor missing, mean</text>" in figure
    assert "80 %" in figure
    results = {key: story()[key] for key in ("evaluation", "bench", "replay")}
    for row in results["bench"]:
        row["ratio"] = 0.0
    html = render_report(results)
    assert "<svg" not in html[html.index('<section id="cost">') : html.index('<section id="replay">')]
