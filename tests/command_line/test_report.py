"""The report in a real browser: structure, sorting, filtering, dark mode, paper, a hostile record, and no request."""

import base64
import json
import os
import shutil
import time

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from conftest import record, run

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    assert not os.environ.get("CI"), "install Debian's chromium and chromium-driver: `make browser`"
    pytest.skip("no Chromium: `make browser` installs it", allow_module_level=True)
FLAGS = [
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.downloads = downloads
    yield driver
    driver.quit()


class Page:
    """A report that is open in the browser."""

    def __init__(self, browser, path):
        self.browser = browser
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(f"file://{path}")
        # On a busy machine the browser may answer before a large page is there.
        WebDriverWait(browser, 60).until(lambda browser: browser.execute_script("return document.readyState") == "complete")

    def texts(self, selector):
        return [element.text for element in self.browser.find_elements(By.CSS_SELECTOR, selector)]

    def column(self, number):
        return [text for text in self.texts(f"#findings tbody tr:not([hidden]) td:nth-child({number})")]

    def click(self, selector):
        self.browser.find_element(By.CSS_SELECTOR, selector).click()

    def script(self, text):
        return self.browser.execute_script(text)

    def messages(self):
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def requests(self):
        """The addresses on a network that the page asked for."""
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        sent = [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if url.startswith(("http", "ws"))]


@pytest.fixture
def report(browser, folder, tmp_path):
    """Returns a function that scans records and opens the report on them."""

    def open_report(records, *options):
        folder.put(records, day="20260302")
        folder.put([], day="20260305")
        place = tmp_path / "report.html"
        done = run("scan", folder.path, "--report", place, "--minimum-level", "low", *options)
        assert done.returncode == 0, done.stderr
        return Page(browser, place)

    return open_report


RECORDS = [
    record(1, time="2026-03-02T16:44:04Z"),
    record(2, "SetPayInformation", time="2026-03-03T10:00:00Z", userIdentity={"type": "IAMUser", "userName": "alice", "accountId": "111122223333"}),
    record(3, "SetContactAddress", time="2026-03-01T10:00:00Z", errorCode="AccessDenied", requestParameters={"city": "Seattle", "currency": "EUR"}),
]


def test_the_page_says_what_was_found_and_what_is_not_known(report):
    page = report(RECORDS)
    assert page.texts("h1") == ["Changes to billing, ownership and contacts"]
    assert page.texts(".cards li") == ["3\nfindings", "1\ncritical", "1\nhigh", "1\nlow", "2\nfiles read"]
    assert page.texts("h2") == [
        "When", "By account", "By actor", "By rule", "Days without any log file", "Findings", "What the rules advise", "What was read",
    ]
    assert page.column(3) == ["SetContactAddress", "CloseAccount", "SetPayInformation"]
    assert ["111122223333", "2026-03-03", "2026-03-04", "2"] in [row.split() for row in page.texts("tbody tr")]
    assert len(page.browser.find_elements(By.CSS_SELECTOR, "svg rect.bar")) == 3
    page.click("#findings details summary")
    assert "CloseAccount" not in page.texts("#findings details[open]")[0] and "203.0.113.7" in page.texts("#findings details[open]")[0]
    assert page.messages() == [] and page.requests() == []


def test_the_table_sorts_and_filters(report):
    page = report(RECORDS)
    page.click("#findings th:nth-child(2) button")
    assert page.column(2) == ["low", "high", "critical"]
    page.click("#findings th:nth-child(2) button")
    assert page.column(2) == ["critical", "high", "low"]
    assert page.script("return document.querySelector('#findings th:nth-child(2)').getAttribute('aria-sort')") == "descending"
    search = page.browser.find_element(By.ID, "search")
    search.send_keys("ALICE")
    assert page.column(6) == ["user alice"] and page.texts("#shown") == ["1 of 3 findings"]
    search.clear()
    search.send_keys(" ")
    page.click("#level option:nth-child(2)")
    assert page.column(2) == ["critical"]
    assert page.messages() == []


def test_the_csv_is_that_of_the_command(report, browser, tmp_path):
    page = report(RECORDS)
    page.click("#download")
    place = browser.downloads / "findings.csv"
    for _ in range(100):
        if place.exists():
            break
        time.sleep(0.1)
    wanted = run("scan", "--format", "csv", "--minimum-level", "low", tmp_path / "logs").stdout
    assert place.read_text() == wanted
    place.unlink()
    assert page.messages() == []


def test_a_hostile_record_is_inert(report):
    evil = "</pre></script><script>document.title='owned'</script><img src=http://127.0.0.1:9/x onerror=\"document.title='owned'\">"
    hostile = dict.fromkeys(("userAgent", "sourceIPAddress", "awsRegion", "errorCode", "eventID", "recipientAccountId"), evil)
    page = report([record(1, **hostile, requestParameters={evil: evil, "currency": evil}, userIdentity={"type": evil, "arn": evil, "userName": evil})])
    assert page.browser.title == "Billing and ownership of AWS accounts: findings"
    assert page.script("return document.querySelectorAll('img, iframe, object, link').length") == 0
    assert page.script("return document.scripts.length") == 1
    assert page.messages() == [] and page.requests() == []
    # The policy stops what the escaping would let through.
    page.script("const script = document.createElement('script'); script.textContent = 'document.title=1'; document.body.append(script)")
    assert page.browser.title != "1" and any("Content Security Policy" in message for message in page.messages())


def test_dark_mode_paper_and_a_phone(report, browser):
    page = report(RECORDS)
    background = "return getComputedStyle(document.body).backgroundColor"
    light = page.script(background)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    assert page.script(background) != light
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert not page.browser.find_element(By.ID, "search").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF-") and len(pdf) > 10_000
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True})
    # Tables scroll in their own frame; the page does not.
    assert page.script("return document.documentElement.scrollWidth") <= 360
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_and_a_screen_reader_reach_everything(report):
    page = report(RECORDS)
    assert page.script("return document.documentElement.lang") == "en"
    unnamed = """return Array.from(document.querySelectorAll('button, input, select, svg')).filter(element =>
        !element.textContent.trim() && !element.closest('label') && !element.getAttribute('aria-labelledby')).length"""
    assert page.script(unnamed) == 0
    assert page.script("return document.querySelectorAll('th:not([scope])').length") == 0
    levels = page.script("return Array.from(document.querySelectorAll('h1, h2, h3')).map(head => +head.tagName[1])")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    # Space and Enter work, because these are a summary and a button.
    page.script("document.querySelector('#findings summary').focus()")
    page.browser.switch_to.active_element.send_keys(" ")
    assert page.script("return document.querySelectorAll('#findings details[open]').length") == 1


def test_ten_thousand_findings_stay_usable(report):
    page = report([record(number, time=f"2026-03-{1 + number % 28:02}T10:00:00Z") for number in range(10_000)])
    assert page.script("return document.querySelectorAll('#findings tbody tr').length") == 10_000
    milliseconds = page.script("""
        const start = performance.now();
        document.querySelector('#findings th button').click();
        const search = document.getElementById('search');
        search.value = '000000001234';
        search.dispatchEvent(new Event('input'));
        document.body.offsetHeight;
        return performance.now() - start""")
    assert page.texts("#shown") == ["1 of 10000 findings"]
    print(f"sorting and searching 10,000 findings: {milliseconds:.0f} ms")
    assert page.messages() == []


def test_no_findings_are_a_report_too(report):
    page = report([])
    assert "No findings." in page.texts("p") and page.messages() == []
