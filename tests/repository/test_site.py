"""The site: each public name on one page, blocks that are checked, equations that are well formed.

The site itself is built by `hatch run docs:build`; what needs no build is tested here.
"""

import ast
import functools
import html
import importlib
import inspect
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_ext"))
blocks, equations, names, reference, symbols = map(
    importlib.import_module, ("blocks", "equations", "names", "reference", "symbols")
)


@functools.cache
def text_of(page):
    return reference.page_text(page, {}, set())


PACKAGES = sorted(path.name for path in ROOT.glob("packages/*/src/optx_*"))


def test_every_public_name_of_every_package_is_on_exactly_one_page():
    held = [(page.package, name) for page in names.pages() for name in page.names]
    assert len(held) == len(set(held))
    for package in [*PACKAGES, "optx_core.build", "optx_core.tree"]:
        public = set(importlib.import_module(package).__all__)
        missing = {name for name in public if (package, name) not in names.places()}
        assert not missing, f"{package}: on no page: {sorted(missing)}"


def test_no_two_pages_have_the_same_path_where_case_does_not_count():
    paths = [page.path.lower() for page in names.pages()]
    assert len(paths) == len(set(paths))


def test_every_name_of_a_page_stands_on_it_with_its_signature():
    for page in names.pages():
        text = text_of(page)
        for name in page.names:
            directives = re.findall(rf"^````.py:\w+. {page.package}\.{name}\b", text, re.MULTILINE)
            assert len(directives) == 1, (page.path, name)


def test_the_page_of_an_optimizer_has_what_a_reader_needs():
    page = next(p for p in names.pages() if p.title == "adamw")
    text = reference.page_text(
        page, {"adamw": {"state": 8.0, "floor": 28, "over_floor": 1.45}}, {"optx_aliases.adamw"}
    )
    assert "decay rate of the mean, in" in text  # "as for `adam`" is looked up
    assert "<math" in text
    assert "*v*: `ScaleByAdamState.nu`" in text
    assert "**8 bytes**" in text
    assert "optx_aliases.adamw.svg" in text
    assert "Loshchilov" in text


def test_the_page_of_every_loss_has_a_plot():
    curves = importlib.import_module("loss_curves").CURVES
    own = {page.title for page in names.pages() if page.package == "optx_losses"}
    assert set(curves) <= own
    assert {name for name in own if name.endswith("_loss")} - set(curves) == {
        "linear_distillation_loss",  # of two models
        "make_fenchel_young_loss",  # makes one
    }


@pytest.mark.parametrize(
    ("optimizer", "symbols"),
    [("soap", "t m v L R Q_L Q_R"), ("adadelta", "E[g²] E[x²]"), ("scale_by_lbfgs", "s y ρ"), ("adan", "m v n g")],
)  # fmt: skip
def test_the_legend_of_an_update_rule_explains_the_symbols_of_the_state(optimizer, symbols):
    page = next(p for p in names.pages() if p.title == optimizer)
    text = text_of(page)
    for symbol in symbols.split():
        assert f"\n- *{reference._escape(symbol)}*: `" in text, symbol
    assert "*mean*:" not in text


def test_the_pages_explain_every_symbol_of_their_equations():
    for page in names.pages():
        if page.package != "optx_core.build":  # examples of code
            text = text_of(page)
            assert not symbols.unexplained(page, text), page.path


def test_equations_are_well_formed_and_keep_every_letter():
    count = 0
    for page in names.pages():
        for part in names.module_doc(page.module)[0]:
            if equations.is_equation(part):
                count += 1
                shown = "".join(ET.fromstring(equations.display(part)).itertext())
                for word in re.findall(r"[A-Za-z]{3,}", part):
                    assert word in shown, (page.module, word)
    assert count > 250


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("b1·m", "<msub><mi>b</mi><mn>1</mn></msub>"),
        ("m / (1 − b1ᵗ)", "<mfrac><mrow><mi>m</mi></mrow><mrow><mn>1</mn>"),
        ("√(v̂ + eps)", '<msqrt><mover accent="true"><mi>v</mi>'),
        ("√max(1, n)", "<msqrt><mrow><mtext>max</mtext>"),
        ("log p(x) / q(x)", '<mo stretchy="false">/</mo>'),  # of what is the logarithm?
        ("a < b & c", "&lt;"),
        ("Gᵀ", "<msup><mi>G</mi>"),
        ("t^(−decay_rate)", "<msup><mi>t</mi>"),
        ("2^−c", '<msup><mn>2</mn><mrow><mo stretchy="false">−</mo><mi>c</mi></mrow></msup>'),
        (
            "Σ_{j≥i} s_j",
            '<msub><mi>Σ</mi><mrow><mi>j</mi><mo stretchy="false">≥</mo><mi>i</mi></mrow></msub>',
        ),
        ("c ≠ y", '<mo stretchy="false">≠</mo>'),
        ("softmax(s)_i", "</mrow><mrow><mi>i</mi></mrow></msub>"),
        ("rank_i + eps_root", "<msub><mtext>rank</mtext><mi>i</mi></msub>"),
        ("the tokens' mean", "<mtext>tokens’</mtext>"),
    ],
)
def test_an_equation_becomes_mathml(line, expected):
    assert expected in equations.mathml(line)
    ET.fromstring(equations.mathml(line))


@pytest.mark.parametrize(
    "text",
    [
        "The decay is m = 0 at first, which is what the paper has.",
        "a line without any sign",
        "With Nesterov's momentum, m = b1·m + (1 − b1)·g.",
    ],
)
def test_prose_is_not_taken_for_equations(text):
    assert not equations.is_equation(text)


def faults(code, after=""):
    return blocks.check_text(f"# Page\n\n```python\n{code}\n```\n{after}", "page.md")


@pytest.mark.parametrize(
    ("code", "line", "told"),
    [
        ("import optx_core\ndef f():\n    return optx_core.no_such_name", 6, "no attribute"),
        ("import optx_core as o\ndef f():\n    return o.tree.nothing(1)", 6, "o.tree.nothing"),
        (
            "from optx_core import scale\ndef f():\n    return scale(factor=1)",
            6,
            "no argument factor",
        ),
        ("def f():\n    return nowhere", 5, "there is no nowhere"),
        ("def f():\n    from optx_core import nothing", 5, "nothing"),
        ("f = lambda: jnp.zeros(2)", 4, "there is no jnp"),
        (
            "from optx_core import scale\ntx = scale(1.0)\ndef f(tx):\n    tx.updates(1)",
            7,
            "tx.updates",
        ),
        ("class A:\n    def f(self):\n        return nowhere", 6, "there is no nowhere"),
        ("1 / 0", 4, "ZeroDivisionError"),
        ("f(", 4, "never closed"),
    ],
)
def test_a_wrong_name_in_a_function_that_nobody_calls_is_a_fault(code, line, told):
    (fault,) = faults(code)
    assert fault.startswith(f"page.md:{line}: ")
    assert told in fault


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    y = x.whatever\n    return y.more",
        "def f():\n    return later()\n```\n\n```python\ndef later():\n    return 1",
        "values = [a.b for a in []]",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    error.args",
        "def f(**options):\n    return dict(**options)",
        "import jax\ndef f(key):\n    return jax.random.normal(key, shape=())",
    ],
)
def test_right_programs_have_no_faults(code):
    assert faults(code) == []


def test_what_a_block_prints_is_compared():
    assert faults("print(1 + 1)", "\n```text\n2\n```\n") == []
    assert faults("print(list(range(3)))", "\n```text\n[0, ...]\n```\n") == []
    (fault,) = faults("print(1 + 1)", "\n```text\n3\n```\n")
    assert "printed\n2" in fault
    (fault,) = faults("print(1 + 1)")
    assert "(nothing)" in fault


def test_what_an_example_of_a_docstring_prints_is_compared(monkeypatch):
    assert blocks.check_examples("optx_projections") == []
    wrong = names.value_of("optx_projections", "projection_simplex")
    monkeypatch.setattr(wrong, "__doc__", "A projection.\n\n>>> 1 + 1\n3\n")
    (told,) = blocks.check_examples("optx_projections")
    assert "Expected:\n    3\nGot:\n    2" in told
    never_called = ">>> import optx_core\n>>> def f():\n...     return optx_core.nothing\n"
    monkeypatch.setattr(wrong, "__doc__", f"A projection.\n\n{never_called}")
    (told,) = blocks.check_examples("optx_projections")
    assert told.startswith("optx_projections.projection_simplex: optx_core.nothing: ")


def test_a_hidden_block_runs_and_a_foreign_one_is_compiled_only():
    hidden = "<!--python\nx = 3\n-->\n\n```python\nprint(x)\n```\n\n```text\n3\n```\n"
    assert blocks.check_text(hidden, "page.md") == []
    assert blocks.check_text("```python torch: a\nimport torch\n```\n", "page.md") == []
    assert blocks.check_text("```python torch: a\nimport torch(\n```\n", "page.md")


def test_the_pages_name_only_hatch_commands_distributions_and_examples_that_exist():
    hatch = (ROOT / "hatch.toml").read_text()
    for path in [*DOCS.glob("*.md"), *DOCS.glob("guide/*.md"), *DOCS.glob("gallery/*.md")]:
        text = path.read_text()
        for line in re.findall(r"^\$ .*$", text, re.MULTILINE):
            for distribution in re.findall(r"optx-[\w-]+", line):
                assert (ROOT / "packages" / distribution).is_dir(), (path.name, line)
        for command in re.findall(r"hatch run (?:\w+:)?(\w+)", text):
            assert re.search(rf"^{command} = ", hatch, re.MULTILINE) or command == "python", command
        for example in re.findall(r"\bexamples/(\w+\.py)", text):
            assert (ROOT / "examples" / example).is_file(), (path.name, example)


@pytest.mark.parametrize(
    "path", [*DOCS.glob("*.md"), *DOCS.glob("guide/*.md")], ids=lambda path: path.stem
)
def test_a_page_says_what_to_install_for_what_it_imports(path):
    text = path.read_text()
    lines = re.findall(r"pip install ([\w .-]+)", text)
    installed = {word.replace("-", "_") for line in lines for word in line.split()}
    for distribution, modules in {
        "optx_flax": {"flax"},
        "orbax_checkpoint": {"orbax"},
        "scikit_learn": {"sklearn"},
    }.items():
        installed |= modules if distribution in installed else set()
    code = [b.code for b in blocks.blocks_of(text) if b.is_python and not b.is_foreign]
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", "\n".join(code), re.MULTILINE))
    everywhere = {"jax", "numpy", "optx_core", *sys.stdlib_module_names}
    assert imported <= installed | everywhere


@pytest.mark.parametrize("page", ["from_pytorch", "guide/from_keras", "guide/from_jaxopt"])
def test_every_function_that_a_table_of_another_library_names_is_ours(page):
    rows = re.findall(
        r"^\| (?!---)(.*) \| (.*) \|$", (DOCS / f"{page}.md").read_text(), re.MULTILINE
    )
    called = [c for _, ours in rows for c in re.findall(r"(?<![\w.])([\w.]+)\(", ours)]
    assert len(called) >= 5
    bare = [c for _, ours in rows for c in re.findall(r"`([\w.]+)`", ours)]
    for name in called + bare:
        assert name == "update" or names.link(name), name


def test_the_gallery_shows_every_example_that_the_build_runs():
    tree = ast.parse((DOCS / "build.py").read_text())
    (examples,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EXAMPLES"
    )
    text = (DOCS / "gallery/index.md").read_text()
    for name in examples:
        assert f"../../examples/{name}.py" in text
        assert f"../_build/gallery/{name}.txt" in text
    assert set(re.findall(r"examples/(\w+)\.py", text)) == {
        p.stem for p in ROOT.glob("examples/*.py")
    }


# A browser reads the site, where there are both.

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SITE = DOCS / "_build" / "html"
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or not (SITE / "index.html").exists(),
    reason="needs Chromium, and the site built by `hatch run docs:build`",
)
PROBE = """
<body><iframe id="page" style="width:{width}px;height:800px;border:0"></iframe><pre id="out"></pre>
<script>
const page = document.getElementById("page");
localStorage.setItem("theme", "{theme}");
page.onload = () => setTimeout(() => {{
  const d = page.contentDocument, w = page.contentWindow, root = d.documentElement;
  const scrolls = [...d.querySelectorAll(".equations, .table-wrapper, .highlight pre")].map(
    e => [e.className || e.tagName, w.getComputedStyle(e).overflowX]);
  const m = d.querySelector("math mfrac");
  document.getElementById("out").textContent = JSON.stringify({{
    width: root.clientWidth, wide: root.scrollWidth, scrolls: scrolls,
    fraction: m ? m.getBoundingClientRect().height / m.firstElementChild.getBoundingClientRect().height : 0,
    background: w.getComputedStyle(d.body).backgroundColor,
    results: [...d.querySelectorAll("#search-results li a")].map(a => a.getAttribute("href")),
  }});
}}, {wait});
page.src = "{url}";
</script></body>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server of the site, with a page of its own that probes the others, and a folder for the browser."""
    import http.server
    import threading

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path == "/_probe.html":  # from memory: other workers serve the same folder
                page = self.server.probe.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)
            else:
                super().do_GET()

    server = http.server.ThreadingHTTPServer(
        ("localhost", 0), functools.partial(Handler, directory=str(SITE))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, tmp_path_factory.mktemp("browser")
    server.shutdown()
    server.server_close()


def browse(site, url, width=390, theme="light", wait=1500):
    """What a browser sees of a page in a frame of some width, and what it writes to its console."""
    server, folder = site
    server.probe = PROBE.format(width=width, theme=theme, url=url, wait=wait)
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            f"--virtual-time-budget={wait + 6000}",
            "--dump-dom",
            f"http://localhost:{server.server_address[1]}/_probe.html",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"HOME": str(folder)},
    )
    (seen,) = re.findall(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert seen, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(seen)), console


@needs_browser
@pytest.mark.parametrize(
    "url",
    ["/index.html", "/reference/optx_aliases/soap.html", "/differences.html", "/guide/nnx.html", "/gallery/index.html"],
)  # fmt: skip
def test_a_page_fits_a_narrow_screen_and_wide_things_scroll_by_themselves(site, url):
    seen, console = browse(site, url)
    assert console == []
    assert seen["wide"] <= seen["width"] == 390
    assert seen["scrolls"]
    assert {overflow for _, overflow in seen["scrolls"]} <= {"auto", "scroll"}


@needs_browser
def test_fractions_are_typeset(site):
    seen, _ = browse(site, "/reference/optx_aliases/adamw.html", width=1200)
    assert seen["fraction"] > 1.8  # a fraction is about twice as high as its numerator


@needs_browser
def test_the_theme_is_light_or_dark(site):
    light, _ = browse(site, "/index.html", theme="light")
    dark, console = browse(site, "/index.html", theme="dark")
    assert console == []
    assert min(map(int, re.findall(r"\d+", light["background"]))) > 200
    assert max(map(int, re.findall(r"\d+", dark["background"])[:3])) < 60


@needs_browser
def test_the_search_finds_adamw(site):
    seen, console = browse(site, "/search.html?q=adamw", wait=6000)
    assert console == []
    assert any("reference/optx_aliases/adamw.html" in result for result in seen["results"][:5])


def test_the_reference_of_every_function_has_its_arguments():
    for page in names.pages():
        for name in page.names:
            value = names.value_of(page.package, name)
            if inspect.isfunction(value):
                wanted = {p for p in inspect.signature(value).parameters if not p.startswith("_")}
                assert wanted == set(names.arguments(page.package, name)), (page.package, name)
