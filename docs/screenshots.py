"""Takes the pictures of `docs/lab.md` and of the README from the page as it is.

python docs/screenshots.py        # needs the extra `test` and a Chromium (apt install chromium)
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from ridgeway.lab.catalog import Catalog, Subject
from ridgeway.lab.page import exported_page

IMAGES = Path(__file__).parent / "images"
LARGEST = 150_000  # bytes of a picture
FIGURES = ("wall", "passes", "batching", "drafting", "diffusion", "roofline")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        file.write_text(exported_page(Catalog(), [Subject("8b", "h100", "bf16")]))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

        def page(width: int, height: int, scheme: str) -> Page:
            made = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
            )
            made.goto(file.as_uri())
            made.evaluate("window.lab.settled")
            made.add_style_tag(content=".bar { position: static !important; }")
            return made

        opening = page(1180, 860, "light")
        opening.screenshot(path=IMAGES / "lab.png")
        wide = page(900, 900, "light")
        for figure in FIGURES:
            wide.locator(f"#{figure} .stage").screenshot(path=IMAGES / f"lab-{figure}.png")
        dark = page(900, 900, "dark")
        dark.locator("#roofline .stage").screenshot(path=IMAGES / "lab-roofline-dark.png")
        phone = page(360, 780, "light")
        phone.evaluate("document.querySelector('#batching .stage').scrollIntoView()")
        phone.screenshot(path=IMAGES / "lab-phone.png")
        browser.close()
    for image in sorted(IMAGES.glob("lab*.png")):
        size = image.stat().st_size
        print(f"{image.name}: {size / 1e3:.0f} kB")
        assert size < LARGEST, f"{image.name} is larger than {LARGEST / 1e3:.0f} kB"


if __name__ == "__main__":
    main()
