"""The page in a real browser: every slider moves its read-outs to what the command says, offline and served."""

import json
import random
import re
import shlex
import shutil
import threading
import time
from contextlib import contextmanager
from os import environ

import pytest
import uvicorn
from filelock import FileLock
from lab_readouts import expected, same
from lab_toys import TOY
from playwright.sync_api import Error, sync_playwright
from typer.testing import CliRunner

from ridgeway.cli import app
from ridgeway.lab.catalog import Catalog, Subject
from ridgeway.lab.figures import FIGURES
from ridgeway.lab.runs import Runner, runnable_models
from ridgeway.lab.server import make_app

STOPS = {name: stops for figure in FIGURES.values() for name, stops in (*figure.chosen.items(), *figure.within.items())}
START = Subject("8b", "h100", "bf16")
READ = (
    "Object.fromEntries([...document.querySelectorAll('[data-readout]')].map((e) => [e.dataset.readout, e.innerText]))"
)


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            made = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"no browser to look at the page with; apt install chromium: {str(error).splitlines()[0]}")
        yield made
        made.close()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A page of one model on one machine, written by the command, once for all workers."""
    base = tmp_path_factory.getbasetemp()
    file = (base.parent if "PYTEST_XDIST_WORKER" in environ else base) / "lab.html"
    with FileLock(f"{file}.lock"):
        if not file.exists():
            line = f"lab --export {file}.part --models 8b --machines h100 --precisions bf16"
            done = CliRunner().invoke(app, line.split())
            assert done.exit_code == 0, done.output
            file.with_name("lab.html.part").rename(file)
    return file


@pytest.fixture(scope="module")
def served():
    """The address of a server of its own, and its catalog."""
    catalog = Catalog()
    page = make_app(catalog, START, Runner(models={**runnable_models(), "toy-diffusion": TOY}))
    server = uvicorn.Server(uvicorn.Config(page, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/", catalog
    server.should_exit = True
    thread.join()


@contextmanager
def opened(browser, address, offline=False, **context):
    """The page, settled; whatever it complains of, and whatever it asks of the network, fails the test."""
    made = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | context))
    made.set_offline(offline)
    page, complaints = made.new_page(), []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: None if _own(request.url, address) else complaints.append(request.url))
    page.goto(address)
    settle(page)
    try:
        yield page
    finally:
        made.close()
    assert complaints == []


def _own(url, address):
    return url.startswith((address.partition("#")[0], "data:", "blob:"))


def settle(page):
    page.wait_for_function("window.lab && window.lab.settled")
    page.evaluate("window.lab.settled")


def readouts(page):
    return page.evaluate(f"() => {READ}")


MOVE = """async (positions) => {
  const seen = [];
  for (const position of positions) {
    for (const [name, place] of Object.entries(position)) {
      const input = document.querySelector(`[data-slider=${name}]`);
      input.value = place;
      input.dispatchEvent(new Event("input", { bubbles: true }));
    }
    await window.lab.settled;
    seen.push(READ);
  }
  return seen;
}""".replace("READ", READ)


def test_page_and_cost_model_agree_on_200_random_slider_positions(browser, exported):
    random.seed(20)
    places = [{name: random.randrange(len(stops)) for name, stops in STOPS.items()} for _ in range(200)]
    with opened(browser, exported.as_uri(), offline=True) as page:
        seen = page.evaluate(MOVE, places)
    predictor = Catalog().predictor(START)
    wrong = []
    for chosen, told in zip(places, seen, strict=True):
        at = {name: STOPS[name][place] for name, place in chosen.items()}
        for name, should in expected(predictor, at):
            right = told[name] == should if isinstance(should, str) else same(told[name], should)
            if not right:
                wrong.append((name, told[name], should, at))
    assert wrong == []
    assert len(seen) == 200


def test_the_default_state_tells_the_story_offline(browser, exported):
    assert exported.stat().st_size < 1_000_000
    with opened(browser, exported.as_uri(), offline=True) as page:
        assert page.inner_text("[data-said=by_arithmetic]") == "61,800"
        assert page.inner_text("[data-said=by_memory]") == "209"
        assert readouts(page)["wall.ratio"] == "295×"
        assert page.locator(".mark").count() == 8
        assert page.locator("[data-run]").count() == 0


FROM_COMMAND = {
    "prompt": [("passes.prefill_intensity", ["prefill_intensity"]), ("passes.intensity", ["intensity"])],
    "output": [("passes.decode_passes", ["passes"]), ("passes.decode_bytes", ["bytes", "decode"])],
    "batch": [("batching.kv_share", ["memory", "kv_share"]), ("batching.paged_waste", ["memory", "paged_waste"])],
    "context": [
        ("batching.kv_share", ["memory", "kv_share"]),
        ("batching.contiguous_waste", ["memory", "contiguous_waste"]),
    ],
    "length": [("drafting.tokens", ["tokens_per_forward"])],
    "acceptance": [("drafting.tokens", ["tokens_per_forward"])],
    "cost": [],
    "at_once": [],
    "answer": [("diffusion.block_passes", ["passes"]), ("diffusion.block_wasted", ["wasted_rows"])],
    "block": [("diffusion.block_wasted", ["wasted_rows"])],
    "per_step": [("diffusion.block_passes", ["passes"]), ("diffusion.block_wasted", ["wasted_rows"])],
    "ends": [],
}


@pytest.fixture(scope="module")
def page(browser, exported):
    with opened(browser, exported.as_uri(), offline=True) as made:
        yield made


@pytest.mark.parametrize("slider", STOPS)
def test_a_key_moves_a_slider_and_its_readouts_to_what_the_command_prints(page, slider):
    figure = page.locator("section.figure", has=page.locator(f"[data-slider={slider}]")).get_attribute("id")
    page.evaluate("window.lab.set({ ends: 1 })")
    settle(page)
    before = readouts(page)
    page.focus(f"[data-slider={slider}]")
    page.keyboard.press("ArrowLeft" if page.evaluate("document.activeElement.value") != "0" else "ArrowRight")
    settle(page)
    after = readouts(page)
    moved = {name for name in after if after[name] != before[name]}
    assert moved, "no read-out moved"
    assert {name.partition(".")[0] for name in moved} == {figure}
    assert page.locator(f"[data-slider={slider}]").get_attribute("aria-valuetext")
    command = page.inner_text(f"[data-command={figure}]")
    done = CliRunner().invoke(app, [*shlex.split(command)[1:], "--json", "-"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])["predictions"][0]
    for name, path in FROM_COMMAND[slider]:
        should = told
        for key in path:
            should = should[key]
        assert same(after[name], should), (name, after[name], should, command)


def test_choosing_a_model_and_a_machine_moves_every_figure(browser, served):
    address, catalog = served
    with opened(browser, address) as page:
        before = readouts(page)
        page.select_option("#model", "qwen3-30b-a3b")
        settle(page)
        page.select_option("#machine", "mi300x")
        settle(page)
        after = readouts(page)
        state = page.evaluate("window.lab.state")
        assert "qwen3-30b-a3b in bf16 on an MI300X" in page.inner_text(".lede")
    moved = {name.partition(".")[0] for name in after if after[name] != before[name]}
    assert moved == set(FIGURES) - {"diffusion"}, "passes do not depend on what is decoded where"
    for name, should in expected(catalog.predictor(Subject("qwen3-30b-a3b", "mi300x", "bf16")), state):
        assert after[name] == should if isinstance(should, str) else same(after[name], should), name


def test_an_address_brings_back_what_was_seen_and_says_what_it_does_not_know(browser, served):
    address, _ = served
    with opened(browser, f"{address}#batch=8&machine=b200") as page:
        assert page.evaluate("[window.lab.state.batch, window.lab.state.machine]") == [8, "b200"]
        assert page.input_value("#machine") == "b200"
        assert page.is_hidden("#problem")


def test_an_unknown_machine_is_answered_with_the_nearest_names(browser, served):
    address, _ = served
    made = browser.new_page()
    made.goto(f"{address}#machine=h10")
    made.wait_for_selector("#problem:not([hidden])")
    assert "did you mean" in made.inner_text("#problem")
    made.close()


def test_a_workload_of_ones_own_becomes_a_point_or_a_sentence(browser, served):
    address, _ = served
    made = browser.new_page()
    made.goto(address)
    settle(made)
    made.click("text=Add a point")
    made.wait_for_selector("[data-point^=block-diffusion]")
    made.fill("[name=batch]", "100000")
    made.click("text=Add a point")
    made.wait_for_selector(".asks .alarm")
    assert re.search(r"leaves room for \d+ requests", made.inner_text(".asks .alarm"))
    made.close()


def test_a_run_of_the_real_engine_streams_into_the_page_and_onto_the_map(browser, served):
    address, _ = served
    with opened(browser, address) as page:
        page.click("#wall [data-run]")
        page.wait_for_function("document.querySelector('#wall .verdict').textContent", timeout=90_000)
        assert "48 weight streams" in page.inner_text("#wall .verdict")
        assert page.locator("#wall .shown .took").count() == 47
        page.click("#wall .shown button")
        page.wait_for_function("window.lab.state.precision === 'as run'")
        settle(page)
        assert page.locator("#roofline circle.dot:not(.hollow)").count() == 2
        assert page.inner_text("[data-command=roofline]") == "ridgeway roof smollm2-135m --plot roof.svg"
        assert page.locator("#batching circle.dot").count() == 1
        assert page.locator("#passes circle.dot").count() == 2
        page.select_option("#machine", "h100")
        settle(page)
        assert page.input_value("#precision") == "bf16"
        assert page.locator("circle.dot").count() == 0


def test_a_model_that_denoises_fills_in_its_answer_before_ones_eyes(browser, served):
    address, _ = served
    with opened(browser, address) as page:
        page.click("#diffusion button:has-text('block by block')")
        page.wait_for_function("[...document.querySelectorAll('#diffusion .verdict')].some((e) => e.textContent)")
        assert page.locator(".board .said").count() == 48
        assert page.locator(".board .blank, .board .busy").count() == 0
        passes, rows = re.match(
            r"(\d+) passes, (\d+) rows", page.inner_text("#diffusion .extras > .passes:not(.about)")
        ).groups()
        assert int(rows) > 48, "positions are computed more often than once"
        assert int(passes) < int(rows)


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_nothing_is_wider_than_the_window(browser, exported, width):
    with opened(browser, exported.as_uri(), viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = (
            "[...document.querySelectorAll('.stage svg')].filter((e) => e.getBoundingClientRect().right > innerWidth)"
        )
        assert page.evaluate(f"{wide}.length") == 0


def test_everything_has_a_name_for_those_who_do_not_see_it(page):
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button, svg[role], [tabindex]")].filter((e) =>
          !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("[aria-live]").count() >= 6
    assert page.locator("details table").count() == 6
    assert page.locator("h1").count() == 1


def test_the_first_thing_that_a_keyboard_reaches_skips_to_the_figures(browser, exported):
    with opened(browser, exported.as_uri()) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('#wall').getBoundingClientRect().top < 200")


def test_a_point_on_the_map_tells_its_numbers_when_it_has_the_focus(page):
    page.focus(".mark >> nth=0")
    tip = page.inner_text("#tip")
    assert "decode, one request" in tip
    assert "FLOP/B, memory-bound" in tip
    page.keyboard.press("Escape")
    assert page.is_hidden("#tip")


def test_dark_and_light(browser, exported):
    def paper(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    with opened(browser, exported.as_uri(), color_scheme="dark") as page:
        dark = paper(page)
        page.click("#theme")
        page.wait_for_function(f"getComputedStyle(document.body).backgroundColor !== '{dark}'")
        page.wait_for_timeout(300)  # the colour fades
        assert paper(page) == "rgb(250, 249, 246)"


def test_nothing_moves_by_itself_for_those_who_asked_for_less_motion(browser, exported):
    with opened(browser, exported.as_uri(), reduced_motion="reduce") as page:
        assert page.inner_text("#wall .controls button >> nth=0") == "Play"
        before = page.inner_text("#wall .clock")
        page.wait_for_timeout(300)
        assert page.inner_text("#wall .clock") == before
        page.click("button:has-text('Next layer')")
        assert page.inner_text("#wall .clock") != before
