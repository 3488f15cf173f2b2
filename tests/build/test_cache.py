"""Steps that are found again."""

from __future__ import annotations

from cellbox.build.cache import Cache
from cellbox.model.image import HistoryEntry, Image, ImageConfig, Platform

USER = ImageConfig(user="u")


def image(id: str, parent: str, told: str, config: ImageConfig = USER, author: str = "") -> Image:
    history = (HistoryEntry(1.0, "before"), HistoryEntry(2.0, told))
    return Image(
        id, (), (), (), config, Platform(), 0, parent=parent, history=history, author=author
    )


def test_a_step_is_its_parent_its_line_and_its_config():
    cache = Cache([image("new", "p", "USER u"), image("old", "p", "USER u")])
    found = cache.find("p", "USER u", USER, "")
    assert found is not None and found.id == "new"
    for parent, told, config, author in (
        ("q", "USER u", USER, ""),
        ("p", "USER v", USER, ""),
        ("p", "USER u", ImageConfig(), ""),
        ("p", "USER u", USER, "Ada"),
    ):
        assert cache.find(parent, told, config, author) is None


def test_what_was_not_built_is_never_found():
    bare = Image("i", (), (), (), USER, Platform(), 0)
    assert Cache([bare, image("j", "", "")]).find("", "", USER, "") is None
