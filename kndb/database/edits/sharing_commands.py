"""What `db.edits` has to share edits: files for colleagues, and adapters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .command_group import CommandGroup

if TYPE_CHECKING:
    from .adapter_folder import ExportedAdapter
    from .pull import Pulled
    from .push import Pushed


class SharingCommands(CommandGroup):
    """Share edits; part of `EditCommands`."""

    def push(self, edits: Sequence[int], path: str | Path, *, force: bool = False) -> Pushed:
        """Writes edits of one model to a file that a colleague with the same checkpoint can pull.

        The file holds the edits' objects, those of the edits that they build on, who planned them and when, the facts
        of their recipes by name, and the evaluations. The same edits give the same bytes.

        Args:
            edits: the edits' numbers.
            path: the file to make.
            force: replace a file that is there.

        Raises:
            UsageError: if there is no edit, or they are of several models.
            OutputError: if the file can't be written.
            NotFoundError: if there is no such edit.
            DiffFileError: if an object is damaged.
        """
        from .push import push

        return push(self._store, edits, Path(path), force=force)

    def export_adapter(self, edits: Sequence[int], out: str | Path, *, rank: int | None = None) -> ExportedAdapter:
        """Writes edits of one model as one LoRA adapter, in the files that peft loads.

        What a few value slots change is kept exactly; edits that are kept as low-rank factors are written as these. An
        adapter is added in floating point, so it comes close to the edits; how close is measured, and written into it.

        Args:
            edits: the edits' numbers, in the order in which they were planned: the adapter is what leads from the
                version of the first to that with all.
            out: the folder to make.
            rank: the highest rank of a module, at least 1; what is beyond is left out, and told. None leaves out
                nothing.

        Raises:
            UsageError: if there is no edit, one is named twice, they are of several models, the rank is under 1, or the
                folder is something else.
            EditError: if an edit changes what an adapter can't hold (other parameters, experts), builds on edits that
                are not named, or they change nothing together.
            OutputError: if the folder can't be written.
            DiffFileError: if an object is damaged.
        """
        from .export_adapter import export_adapter

        return export_adapter(self._store, self._models, edits, Path(out), rank=rank)

    def pull(
        self,
        path: str | Path,
        *,
        model: str | None = None,
        preview: bool = False,
        most_bytes: int | None = None,
    ) -> list[Pulled]:
        """Takes the edits of such a file into the store, all or none; applies nothing.

        Every edit is tried in memory first, on the checkpoint's own bytes, and what the file says of it is compared
        with what it does. What can't be told from bytes stays the sender's words; see `Pulled`.

        Args:
            path: the file.
            model: the model here; None takes the one with the file's fingerprint.
            preview: check the file, try its edits in memory, and say what is in it; store nothing.
            most_bytes: a larger file is refused; None allows four times the model's weight files, and 64 MiB.

        Returns:
            The edits of the file, in order.

        Raises:
            InputError: if the file is damaged or too large, an edit does not fit, or is not what the file says.
            FingerprintError: if it is for another checkpoint.
            DiffFileError: if an object in it is not sound.
        """
        from .pull import pull

        return pull(self._store, self._models, Path(path), model, preview=preview, most_bytes=most_bytes)
