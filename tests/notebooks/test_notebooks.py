"""Every notebook of ``notebooks/`` runs to its end, in a store of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="needs nbclient: pip install nbclient")

import nbformat  # noqa: E402
from jupyter_client.manager import AsyncKernelManager  # noqa: E402
from nbclient import NotebookClient  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture
def run(engine, tmp_path, monkeypatch):
    """``run(path)`` executes a notebook; the notebook with its outputs."""
    paths = [str(REPOSITORY / "runtime"), str(REPOSITORY / "magics")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def execute(path: Path) -> nbformat.NotebookNode:
        manager = AsyncKernelManager(kernel_name="python3")
        manager.kernel_spec.argv = [
            sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
        ]  # fmt: skip
        book = nbformat.read(path, as_version=4)
        NotebookClient(
            book, km=manager, timeout=90, store_widget_state=False,
            resources={"metadata": {"path": str(tmp_path)}},
        ).execute()  # fmt: skip
        return book

    return execute


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_to_its_end(run, path):
    book = run(path)
    texts = [str(output) for cell in book.cells for output in cell.get("outputs", ())]
    assert texts
    assert not [text for text in texts if "Traceback" in text]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")


def test_the_tour_shows_what_it_says(run, engine):
    book = run(REPOSITORY / "notebooks" / "00-tour.ipynb")
    shown = {cell["source"]: cell["outputs"] for cell in book.cells if cell.cell_type == "code"}
    assert shown["summary"][0]["data"]["text/plain"] == "{'sum': 23, 'largest': 9}"
    assert "<table" in shown["%container ps"][0]["data"]["text/html"]
    assert "A /root/note" in shown["%container diff tour"][0]["data"]["text/plain"]
    assert engine.containers.list(all=True) == []
