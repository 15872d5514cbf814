"""Carrying out one step of the plan.

Every step looks first whether its path is still what the plan saw, and leaves
it alone if not: the next plan sees what is there by then.  Files appear whole:
fetched or copied into a hidden file, synced, checked, and put in place in one
step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from twisted.logger import Logger

from peerstore import vectors
from peerstore.client.client import Change, Client
from peerstore.client.crew import in_thread
from peerstore.client.download import Fetched
from peerstore.client.source import ChangedMeanwhile, Found, show
from peerstore.client.state import Agreed
from peerstore.client.upload import Uploaded
from peerstore.errors import CorruptData, StorageError
from peerstore.files.manifest import Manifest, NodeKind
from peerstore.sync.naming import conflict_name
from peerstore.sync.plan import Action, Copy, Do, differs, same_content
from peerstore.sync.tree import HiddenFile, LocalTree
from peerstore.transactions.view import PathVersion
from peerstore.util.durable import disk_error
from peerstore.vectors import EMPTY, Vector

__all__ = ["Carrier", "Done"]

#: Of a folder that is made only because something has to be in it.
_MADE_MODE = 0o700
_MOST_NAMES = 1000


class Done(NamedTuple):
    """What came of one step.

    *changes* are still to be published, together; *agreed* is what is then
    agreed for the step's path, if *agrees*.  *local* is what lies at paths of
    the folder now.
    """

    changes: tuple[Change, ...] = ()
    agrees: bool = False
    agreed: Agreed | None = None
    local: tuple[tuple[bytes, Found | None], ...] = ()


class Carrier:
    """Does what the plan says, on the local tree and towards the ring.

    :param folder: the NAME under which the folder is kept.
    :param agreed: {path: what is agreed}; kept up to date by the caller.
    """

    _log = Logger()

    def __init__(self, client: Client, tree: LocalTree, folder: str, agreed: Mapping[bytes, Agreed]) -> None:
        self._client = client
        self._tree = tree
        self._folder = folder
        self._agreed = agreed
        self._sources: dict[bytes, bytes] | None = None
        self._modes: dict[bytes, tuple[PathVersion, Vector]] = {}

    def begin(self) -> None:
        """A new plan begins."""
        self._sources = None
        self._modes = {}

    async def carry(self, action: Action) -> Done:
        """Carry one step out.

        :raises peerstore.errors.PeerStoreError: the path has to wait for the
            next plan; nothing is half done.
        """
        try:
            return await self._carry(action)
        except FileNotFoundError as error:
            # It went between our look and our step.
            raise ChangedMeanwhile(f"{show(action.path)} went meanwhile; it is looked at again.") from error
        except OSError as error:
            raise disk_error(error, show(action.path)) from error

    async def _carry(self, action: Action) -> Done:
        if action.do == Do.FORGET:
            return Done((), True)
        if action.do == Do.RESOLVE:
            return await self._resolve(action)
        await self._run(self._tree.expect, action.path, action.found)
        if action.do == Do.DELETE:
            copies = await self._copies(action.copies)
            gone = await self._client.deletion(self._folder, action.path, [action.vector])
            return Done((*copies, gone), True)
        if action.do == Do.REMOVE:
            await self._run(self._tree.remove, action.path, action.found)
            return Done((), True, None, ((action.path, None),))
        if action.do == Do.UPLOAD:
            return await self._upload(action)
        return await (self._yield(action) if action.do == Do.YIELD else self._fetch(action, action.found))

    async def finish(self) -> list[tuple[bytes, Done]]:
        """Give folders their modes, now that all is written that goes into
        them; (path, what came of it) of each.

        :raises OSError: as the system says.
        """
        results = []
        for path, (version, vector) in sorted(self._modes.items(), reverse=True):
            found: Found | None = await self._run(self._tree.look, path)
            if found is not None and found.kind == NodeKind.FOLDER:
                now = await self._run(self._tree.change_mode, found, version.name.mode)
                results.append((path, _agree(version, vector, now)))
        self._modes = {}
        return results

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        return await in_thread(self._client.runner, function, *args)

    # -- towards us -------------------------------------------------------------------

    async def _fetch(self, action: Action, found: Found | None) -> Done:
        path, version = action.path, action.version
        assert version is not None
        if version.name.kind == NodeKind.FOLDER:
            return await self._fetch_folder(action, version, found)
        last = action.agreed
        is_agreed = found is not None and last is not None and not differs(found, last)
        if found is not None and last is not None and is_agreed and same_content(version, last.kind, last.sha256):
            return await self._take_mode(version, action.vector, found)
        placed = await self._write(path, version, found)
        return _agree(version, action.vector, placed)

    async def _fetch_folder(self, action: Action, version: PathVersion, found: Found | None) -> Done:
        """A folder, which gets its mode at last.  It is agreed on from now on
        that there is one, and not yet which version of it: so whatever its
        owner makes of it by then is derived from it, and whenever we end, the
        next plan goes on."""
        await self._run(self._tree.folder, action.path, found)
        made: Found | None = await self._run(self._tree.look, action.path)
        if made is None or made.kind != NodeKind.FOLDER:
            raise ChangedMeanwhile(f"{show(action.path)} changed meanwhile; it is looked at again.")
        self._modes[action.path] = (version, action.vector)
        done = _agree(version, action.vector, made)
        assert done.agreed is not None
        return done._replace(agreed=done.agreed._replace(version=b""))

    async def _take_mode(self, version: PathVersion, vector: Vector, found: Found) -> Done:
        """The content is here already (a copy, or the same edit)."""
        if found.kind == NodeKind.FILE and found.mode != version.name.mode:
            found = await self._run(self._tree.change_mode, found, version.name.mode)
        return _agree(version, vector, found)

    async def _yield(self, action: Action) -> Done:
        path, version, found = action.path, action.version, action.found
        assert found is not None
        digest: bytes = await self._run(self._tree.digest, found)
        if version is not None and same_content(version, found.kind, digest):
            return await self._take_mode(version, action.vector, found)
        if self._is_logged(path, found, digest):
            # Only its mode or time is another, or we placed it and ended
            # before that was kept, or it came from an old backup.
            if version is not None:
                return await self._fetch(action._replace(agreed=None), found)
            await self._run(self._tree.remove, path, found)
            return Done((), True, None, ((path, None),))
        if version is None or version.name.kind == NodeKind.FOLDER:
            moved = [await self._step_aside(found, digest)]
            return Done((), False, None, (*moved, (path, None)))
        # Fetched before the local one gives up its name, so that the name is
        # never without a file for longer than that takes.
        file, manifest = await self._stage(version)
        try:
            moved = [await self._step_aside(found, digest)]
            placed = await self._place(file, manifest, path, None)
        except BaseException:
            await self._discard(file)
            raise
        done = _agree(version, action.vector, placed)
        return done._replace(local=(*moved, *done.local))

    def _is_logged(self, path: bytes, found: Found, digest: bytes) -> bool:
        """Whether the log ever had that content at that path: then no copy is
        needed to keep it."""
        versions = self._client.history(self._folder, path)
        return any(not version.deleted and same_content(version, found.kind, digest) for version in versions)

    async def _step_aside(self, found: Found, digest: bytes) -> tuple[bytes, Found]:
        """Rename a local file to a name that says what it is."""
        for number in range(1, _MOST_NAMES):
            other = conflict_name(found.path, self._client.device, digest, number)
            if await self._run(self._tree.step_aside, found, other):
                self._log.info("two edits met: the local one is kept under another name beside the other")
                return other, found._replace(path=other)
        raise StorageError(f"{show(found.path)}: there are too many copies of it.", "Remove those you do not need.")

    async def _write(self, path: bytes, version: PathVersion, expected: Found | None) -> Found:
        file, manifest = await self._stage(version)
        try:
            return await self._place(file, manifest, path, expected)
        except BaseException:
            await self._discard(file)
            raise

    async def _place(self, file: HiddenFile | None, manifest: Manifest, path: bytes, expected: Found | None) -> Found:
        if file is None:
            placed = await self._run(self._tree.symlink, path, manifest.inline, manifest.mtime_ns, expected)
        else:
            placed = await self._run(self._tree.place, file, path, manifest.mode, manifest.mtime_ns, expected)
        return placed  # type: ignore[no-any-return]

    async def _stage(self, version: PathVersion) -> tuple[HiddenFile | None, Manifest]:
        """A version's content in a hidden file, synced and checked, and its
        manifest.  A link needs no file."""
        fetched: Fetched = await self._client.manifest(version)
        manifest, wanted = fetched.manifest, version.name
        if (manifest.kind, manifest.sha256, manifest.mode) != (wanted.kind, wanted.sha256, wanted.mode):
            raise CorruptData(f"{show(wanted.path)}: the log and the version that it names differ.")
        if manifest.kind == NodeKind.SYMLINK:
            if hashlib.sha256(manifest.inline).digest() != wanted.sha256:
                raise CorruptData(f"{show(wanted.path)}: a link's text is not what was stored.")
            return None, manifest
        file: HiddenFile = await self._run(self._tree.temporary)
        try:
            if not await self._copy_here(wanted.sha256, file):
                await self._client.content(fetched, file.write)
            await self._run(file.finish)
        except BaseException:
            await self._discard(file)
            raise
        return file, manifest

    async def _copy_here(self, sha256: bytes, file: HiddenFile) -> bool:
        """Whether some file of this folder had the content, so that a rename
        or a copy elsewhere moves none of it."""
        if self._sources is None:
            self._sources = {
                last.sha256: path for path, last in self._agreed.items() if last.kind == NodeKind.FILE and last.size
            }
        source = self._sources.get(sha256)
        if source is None or differs(await self._run(self._look_quietly, source), self._agreed.get(source)):
            return False
        try:
            if await self._run(self._tree.copy, source, file) == sha256:
                return True
        except OSError as error:
            self._log.debug("a file here could not be copied ({why}): its content is fetched", why=str(error))
        await self._run(file.start_anew)
        return False

    def _look_quietly(self, path: bytes) -> Found | None:
        try:
            return self._tree.look(path)
        except StorageError:
            return None

    async def _discard(self, file: HiddenFile | None) -> None:
        if file is not None:
            await self._run(self._tree.discard, file)

    # -- towards the ring ---------------------------------------------------------------

    async def _upload(self, action: Action) -> Done:
        assert action.found is not None
        uploaded: Uploaded = await self._client.upload(self._tree.root, action.found, lambda _: None)
        manifest, found, standing = uploaded.manifest, uploaded.found, action.version
        local = ((action.path, found),)
        same = standing is not None and same_content(standing, int(manifest.kind), manifest.sha256)
        if same and standing is not None and standing.name.mode == manifest.mode:
            return _agree(standing, action.vector, found)._replace(local=local)
        copies = await self._copies(action.copies)
        change = await self._client.change(self._folder, action.path, uploaded, [action.vector])
        done = _agree(change.version, EMPTY, found)
        return done._replace(changes=(*copies, change), local=local)

    async def _resolve(self, action: Action) -> Done:
        copies = await self._copies(action.copies)
        if action.version is not None:
            change = await self._client.again(self._folder, action.path, action.version, [action.vector])
        else:
            made = Manifest(NodeKind.FOLDER, 0, 0, _MADE_MODE, b"", b"", ())
            change = await self._client.store(self._folder, action.path, made, [action.vector])
        self._log.info("two edits had crossed: one has the name, and the other is a copy beside it")
        return Done((*copies, change))

    async def _copies(self, copies: Iterable[Copy]) -> list[Change]:
        return [await self._client.again(self._folder, copy.path, copy.version, ()) for copy in copies]


def _agree(version: PathVersion, vector: Vector, found: Found) -> Done:
    """Done, and agreed: *found* holds *version*, having seen *vector*."""
    agreed = Agreed(
        version.version,
        vectors.join([version.vector, vector]),
        int(found.kind),
        found.size,
        found.mtime_ns,
        found.ctime_ns,
        found.inode,
        found.mode,
        version.name.sha256,
    )
    return Done((), True, agreed, ((found.path, found),))
