"""Reports in a real browser. On the host, which has Chromium and its driver; CONTRIBUTING.md says how to run it."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

pytestmark = pytest.mark.browser
ROOT = pathlib.Path(__file__).resolve().parents[2]
REPORTS = ("pair", "groups", "xie2019b", "liu2017", "farzaneh2021", "wu2023")
PAGES = (*REPORTS, "faces")
WIDTHS = (1280, 420)


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    subprocess.run([str(ROOT / "fer"), "python", "-m", "tests.browser.pages", str(folder)], cwd=str(ROOT), check=True,
                   stdout=subprocess.DEVNULL)
    assert sorted(path.stem for path in (folder / "pages").iterdir()) == sorted(PAGES)
    return folder / "pages"


@pytest.fixture(scope="session")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or pytest.fail("no chromium: apt-get install chromium")
    driver = shutil.which("chromedriver") or pytest.fail("no chromedriver: apt-get install chromium-driver")
    for argument in ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage"] + ["--no-sandbox"] * (
            os.getuid() == 0):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


def faults(chromium, page, width):
    """What is wrong with a page at a width in CSS pixels, by kind; empty where all is well."""
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    chromium.get(page.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    requested = [event["params"]["request"]["url"] for event in events
                 if event["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in requested and chromium.execute_script("return innerWidth") == width
    found = {
        "console": [entry["message"] for entry in chromium.get_log("browser")],
        "requests": [url for url in requested if url != page.as_uri() and not url.startswith("data:")],
        "pictures": chromium.execute_script(
            "return [...document.images].filter(i => !i.complete || i.naturalWidth == 0).map(i => i.alt)"),
        "overflow": chromium.execute_script(
            "const root = document.documentElement; return root.scrollWidth > root.clientWidth ?"
            " [root.scrollWidth + ' pixels'] : []")}
    return {kind: what for kind, what in found.items() if what}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole(chromium, pages, name, width):
    assert faults(chromium, pages / (name + ".html"), width) == {}
    assert chromium.execute_script("return document.images.length") > 20


def test_each_papers_figures_are_there(chromium, pages):
    wanted = {"pair": ("[xie2019a] Fig. 8", "[xie2019a] Fig. 9", "[xie2019a] Fig. 10"),
              "xie2019b": ("[xie2019b] Fig. 8", "[xie2019b] Table 2"),
              "groups": ("Folds, test split", "Seeds, test split", "[xie2019a] Fig. 11", "[xie2019a] Fig. 12"),
              "liu2017": ("[liu2017] Fig. 5", "[liu2017] Fig. 6"),
              "farzaneh2021": ("[farzaneh2021] Fig. 3", "[farzaneh2021] Fig. 4", "[farzaneh2021] Fig. 5"),
              "wu2023": tuple(f"[wu2023] Fig. {number}" for number in range(4, 9))}
    for name in REPORTS:
        chromium.get((pages / (name + ".html")).as_uri())
        text = chromium.execute_script("return document.body.innerText")
        assert [figure for figure in wanted[name] if figure not in text] == [], name


@pytest.mark.parametrize("body, kinds", [
    ("<p>fine</p>", set()),
    ("<script>undefined_function()</script>", {"console"}),
    ("<img src='nowhere.png' alt='lost'>", {"console", "requests", "pictures"}),
    ("<img src='data:image/png;base64,AAAA' alt='broken'>", {"pictures"}),
    ("<div style='width: 1300px'>wide</div>", {"overflow"})])
def test_faults_are_found(chromium, tmp_path, body, kinds):
    (tmp_path / "page.html").write_text("<!DOCTYPE html><html><body>" + body)
    assert set(faults(chromium, tmp_path / "page.html", 1280)) == kinds
