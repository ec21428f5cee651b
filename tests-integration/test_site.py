"""The built site, as a reader's browser shows it. `nox -s docs` builds it and says where it is."""

import functools
import http.server
import os
import shutil
import threading

import pytest

SITE = os.environ.get("EQX_SITE")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(SITE is None, reason="no built site: run `nox -s docs`"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(_Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with (
        playwright.sync_playwright() as p,
        p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as chromium,
    ):
        yield chromium


@pytest.fixture
def page(browser, address):
    """Yield a page at the address of the site; what the console complains of fails the test."""
    page = browser.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{address}/index.html")
    yield page
    page.close()
    assert complaints == []


def test_the_navigation_leads_to_a_page(page):
    page.locator("nav.md-nav--primary a", has_text="Design").first.click()
    page.wait_for_url("**/design/**")
    assert "Design" in page.title()


def test_the_search_box_finds_filter_jit(page):
    page.locator("input.md-search__input").click()
    page.keyboard.type("filter_jit")
    page.wait_for_selector(".md-search-result__item")
    found = page.locator(".md-search-result__item").all_inner_texts()
    assert any("filter_jit" in text for text in found)


def test_code_has_a_button_that_copies_it(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.locator("button.md-clipboard, button.md-code__button[data-md-type=copy]").first
    button.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == page.locator("pre code").first.inner_text().strip()


def test_examples_of_the_reference_are_shown_as_code(page, address):
    page.goto(f"{address}/reference/trees/")
    shown = page.locator(".highlight code", has_text=">>> tree_at(").first
    assert shown.inner_text().splitlines()[0] == '>>> tree_at(lambda t: t["a"][0], {"a": (1, 2)}, 10)'


@pytest.mark.parametrize("path", ["index.html", "reference/trees/", "all_of_eqx/", "benchmarks/"])
def test_a_phone_needs_no_sideways_scrolling(browser, address, path):
    phone = browser.new_page(viewport={"width": 375, "height": 700})
    phone.goto(f"{address}/{path}")
    wide, seen = phone.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    phone.close()
    assert wide <= seen
