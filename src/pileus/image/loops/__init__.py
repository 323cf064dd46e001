"""What the image service keeps true: deleted images leave no data, broken uploads leave neither data nor claims."""

from __future__ import annotations

from pileus.image.logic import data
from pileus.kernel.loops import Loop

LOOPS = (
    Loop("image_removals", every=60.0, run=data.remove_deleted),
    Loop("image_broken_uploads", every=30.0, run=data.undo_broken_uploads),
)
