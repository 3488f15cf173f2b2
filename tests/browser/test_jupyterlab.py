"""The tour in JupyterLab, in a real browser that reaches nothing but its own server."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install 'cellbox[browser]'"
)
pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'cellbox[browser]'")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium to be installed")
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-dev-shm-usage""".split()


@pytest.fixture
def lab(engine, tmp_path) -> Iterator[str]:
    """The URL of a JupyterLab over a copy of the notebooks, with a kernel of this Python."""
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "notebooks")
    # cells out of sight must be in the document too
    settings = tmp_path / "JUPYTER_CONFIG_DIR/lab/user-settings/@jupyterlab/notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    token = secrets.token_hex(8)
    home = {name: str(tmp_path / name) for name in
            ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR",
             "IPYTHONDIR")}  # fmt: skip
    paths = [str(REPOSITORY / "runtime"), str(REPOSITORY / "magics")]
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
             "--ip=127.0.0.1", f"--IdentityProvider.token={token}", "--expose-app-in-browser",
             f"--ServerApp.root_dir={tmp_path / 'notebooks'}"],
            env={**os.environ, **home, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        _await(f"http://127.0.0.1:{port}/api?token={token}")
        yield f"http://127.0.0.1:{port}/lab/tree/00-tour.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(30)


def _await(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            assert time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.1)


@pytest.fixture
def page(lab) -> Iterator:
    """A page that shows the tour; requests to other hosts are refused."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        made = browser.new_page(viewport={"width": 1200, "height": 3600})
        made.route(
            lambda url: "127.0.0.1" not in url and not url.startswith(("data:", "blob:")),
            lambda route: route.abort(),
        )
        made.goto(lab)
        yield made
        browser.close()


@pytest.mark.timeout(240)
def test_the_tour_runs_and_its_outputs_show(page, tmp_path):
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
        timeout=60_000,
    )
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(
        "[...document.querySelectorAll('.jp-CodeCell')].every("
        "cell => /\\[\\d+\\]/.test(cell.querySelector('.jp-InputPrompt').textContent))",
        timeout=60_000,
    )
    outputs = page.locator(".jp-OutputArea-output").all_inner_texts()
    shown = "\n".join(outputs)
    where = Path(os.environ.get("CELLBOX_SCREENSHOT", tmp_path / "tour.png"))
    page.screenshot(path=str(where), full_page=True)
    assert "processes: /proc/1\n" in f"{shown}\n"
    assert "{'sum': 23, 'largest': 9}" in shown
    assert "A /root/note" in shown
    assert page.locator(".jp-OutputArea-output table").count() >= 2
    assert "Error" not in shown, shown
