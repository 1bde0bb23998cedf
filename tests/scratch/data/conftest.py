"""An index of tiny packages, and a folder that data are built in from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datashop import Room, Shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


@pytest.fixture
def room(tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Room:
    room = Room(tmp_path, shop)
    monkeypatch.setenv("SCRATCH_DATA", str(room.data))
    return room
