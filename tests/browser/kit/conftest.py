"""The figure kit in chromium, on a plain page: no JupyterLab and no kernel.

A test asks for the fixture `kit`, a page on which

- `kit.open("stage.js")` loads the style sheets of a module and of all that it imports. The modules
  themselves are served as they are under `/js/`: `import("/js/stage.js")` in a script;
- `kit.run(script, argument)` runs the body of an async function of `argument` and of `page`, what
  `page.js` offers, and returns what it returns;
- `kit.mount({"frames": [...], ...})` renders `figure.js` into `#figure` with a model that stands
  for anywidget's. Values of type bytes arrive as DataViews, as they do from anywidget. Then
  `kit.model("index")` reads a trait, `kit.set(index=3)` sets some, as Python does, and `kit.sent()`
  returns the messages to Python.

For pictures alone there are the fixtures `stage`, `still` (for a reader who asks for little motion)
and `open_stage(dark=True, ...)`.

The fixture `open_page` opens a file in a page that has no network.

`kit.page` is Playwright's page. The test fails if the page reports an error. What moves is waited
for with `kit.page.wait_for_function`, never with a fixed time.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from course_lib.viz.kit import bundle
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Shape

HERE = Path(__file__).parent
WINDOW = {"width": 1100, "height": 800}

START = """
  const { createStage } = await import("/js/stage.js");
  page.stage = createStage();
  const figure = document.querySelector("#figure");
  figure.className = "scene-root";
  figure.replaceChildren(page.stage.element);
"""

RUN = "([script, argument]) => window.kitPage.run(script, argument)"


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves the page, and the kit's modules under ``/js/``."""

    # A browser takes a module of another type for a mistake, and Python's guess is the system's.
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript"}

    def translate_path(self, path: str) -> str:
        folder, _, name = path.partition("?")[0].rpartition("/")
        return str((bundle.JS_FOLDER if folder == "/js" else HERE) / name)

    def log_message(self, *_arguments: Any) -> None:
        """Keep the tests' output readable."""


class KitPage:
    """A page of the browser with the figure kit on it."""

    def __init__(self, browser: Any, address: str) -> None:
        self._browser = browser
        self._address = address
        self._pages: dict[float, Any] = {}
        self.page: Any = None
        self.errors: list[str] = []

    def open(
        self,
        entry: str = "figure.js",
        *,
        dark: bool = False,
        still: bool = False,
        density: float = 1,
        width: int = WINDOW["width"],
    ) -> None:
        """Open an empty page that has the style sheets of a module.

        Args:
            entry: The module.
            dark: Whether the reader's system asks for dark pages.
            still: Whether the reader asks for little motion.
            density: Pixels of the screen for one of the page.
            width: Of the window.
        """
        if density not in self._pages:
            self._pages[density] = self._new_page(density)
        self.page = self._pages[density]
        self.page.set_viewport_size(WINDOW | {"width": width})
        self.page.emulate_media(
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if still else "no-preference",
        )
        self.page.goto(f"{self._address}/page.html")
        self.page.wait_for_function("() => window.kitPage")
        self.run("document.querySelector('style').textContent = argument", bundle.styles(entry))

    def _new_page(self, density: float) -> Any:
        page = self._browser.new_page(device_scale_factor=density)
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)
        return page

    def run(self, script: str, argument: Any = None) -> Any:
        """Run the body of an async function of `argument` and `page`."""
        return self.page.evaluate(RUN, [script, _as_json(argument)])

    def mount(self, traits: dict[str, Any], entry: str = "figure.js") -> None:
        """Render a widget's front end into ``#figure``; the page is opened if there is none."""
        if self.page is None:
            self.open(entry)
        self.run("await page.mount(...argument)", [entry, traits])

    def model(self, trait: str) -> Any:
        """Return the value of a trait in the browser."""
        return self.run("return page.model.get(argument)", trait)

    def set(self, **traits: Any) -> None:
        """Change traits as Python does."""
        self.run("page.model.receive(argument)", traits)

    def sent(self) -> list[Any]:
        """Return the messages that the figure has sent to Python."""
        return list(self.run("return page.model.sent"))

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")


def _as_json(value: Any) -> Any:
    """Return a value as the page takes it: ``page.js`` knows bytes by the name ``$bytes``."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    return [_as_json(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.fixture(scope="session")
def kit_address() -> Iterator[str]:
    """Where the page is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def kit_page(browser: Any, kit_address: str) -> KitPage:
    """The page that the tests of a file share, one after the other: a new one takes a while."""
    return KitPage(browser, kit_address)


@pytest.fixture
def kit(kit_page: KitPage) -> Iterator[KitPage]:
    """A page with the figure kit, opened afresh; the browser must have nothing to complain of."""
    kit_page.page = None
    kit_page.errors.clear()
    yield kit_page
    assert kit_page.errors == [], "the browser complains"


class Stage:
    """A stage on the page, and what tests do with it."""

    def __init__(self, kit: KitPage) -> None:
        self.kit = kit
        self.page = kit.page
        kit.run(START)

    def show(
        self, *shapes: Shape, animate: bool = True, duration: int = 60, width: float = 400
    ) -> None:
        """Show the shapes as a scene of 300 pixels height."""
        scene = Scene(width, 300, shapes, "Blocks", "What blocks do")
        options = {"animate": animate, "duration": duration}
        self.kit.run("page.stage.show(...argument)", [scene.to_dict(), options])

    def attribute(self, selector: str, name: str) -> str | None:
        """Return an attribute of the first node in the picture that matches."""
        value: str | None = self.page.locator(f".scene {selector}").first.evaluate(
            "(node, name) => node.getAttribute(name)", name
        )
        return value

    def count(self, selector: str) -> int:
        """Return how many nodes of the picture match."""
        return int(self.page.locator(f".scene {selector}").count())

    def remember(self, selector: str) -> None:
        """Write on a node which one it is."""
        script = "(node, selector) => void (node.remembered = selector)"
        self.page.locator(f".scene-shapes {selector}").evaluate(script, selector)

    def is_same(self, selector: str) -> bool:
        """Return whether the node that matches is the one that was remembered."""
        script = "(node, selector) => node.remembered === selector"
        return bool(self.page.locator(f".scene-shapes {selector}").evaluate(script, selector))


@pytest.fixture
def open_stage(kit: KitPage) -> Callable[..., Stage]:
    """Open a page with a stage; options as for ``KitPage.open``."""

    def opened(**options: Any) -> Stage:
        kit.open("stage.js", **options)
        return Stage(kit)

    return opened


@pytest.fixture
def stage(open_stage: Callable[..., Stage]) -> Stage:
    """A stage."""
    return open_stage()


@pytest.fixture
def still(open_stage: Callable[..., Stage]) -> Stage:
    """A stage for a reader who asks for little motion."""
    return open_stage(still=True)


ON_THE_PAGE = ("file:", "data:", "blob:")
"""All other addresses are the network's."""

OF_NBCONVERT = ("https://cdnjs.cloudflare.com/ajax/libs/",)
"""What nbconvert's own pages ask for, widgets or not: formulas and their loader."""


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a file in a browser that has no network; nothing may be asked of it or go wrong."""
    pages = []
    troubles: list[str] = []

    def opened(path: Path, **options: Any) -> Any:
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(10_000)
        page.context.set_offline(True)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request",
            lambda sent: (
                sent.url.startswith(ON_THE_PAGE + OF_NBCONVERT)
                or troubles.append(f"asked for {sent.url}")
            ),
        )
        page.goto(path.as_uri())
        return page

    yield opened
    for page in pages:
        page.close()
    assert troubles == []
