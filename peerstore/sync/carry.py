"""Carrying out one step of the plan."""

from __future__ import annotations

from twisted.logger import Logger

from peerstore.client.client import Change, Client
from peerstore.client.restore import Restore
from peerstore.client.source import Found
from peerstore.client.state import Agreed
from peerstore.client.upload import Uploaded
from peerstore.errors import StorageError
from peerstore.files.manifest import NodeKind
from peerstore.sync.plan import Action, Do
from peerstore.sync.tree import LocalTree
from peerstore.transactions.view import PathVersion

__all__ = ["Carrier", "Pending"]

Pending = tuple[Change, Agreed | None]


class Carrier:
    """Does what the plan says, on the local tree and towards the ring.

    :param folder: the NAME under which the folder is kept.
    """

    _log = Logger()

    def __init__(self, client: Client, tree: LocalTree, folder: str) -> None:
        self._client = client
        self._tree = tree
        self._folder = folder
        self._writer = Restore(client, tree.target)

    async def carry(self, action: Action) -> Pending | None:
        """Carry one step out; a change that is to be published with others.

        :raises peerstore.errors.PeerStoreError: the step is left for the
            next round.
        """
        if action.do in (Do.STEP_ASIDE, Do.FETCH, Do.REMOVE):
            try:
                await self._locally(action)
            except OSError as error:
                raise StorageError(f"{error.strerror or error}.") from error
            return None
        if action.do == Do.UPLOAD:
            return await self._upload(action)
        if action.do == Do.DELETE:
            assert action.agreed is not None
            return await self._client.deletion(self._folder, action.path, [action.agreed.vector]), None
        if action.do == Do.MERGE:
            return await self._merge(action)
        await self.agree(action.path, None)
        return None

    async def agree(self, path: bytes, now: Agreed | None) -> None:
        """Keep what is agreed for a path now."""
        await self._client.database.run(self._client.state.agree, self._folder, [(path, now)])

    # -- towards us -------------------------------------------------------------------

    async def _locally(self, action: Action) -> None:
        if action.do == Do.STEP_ASIDE:
            await self._step_aside(action)
        elif action.do == Do.REMOVE:
            await self._client.runner.run(self._tree.target.remove, action.path, action.found)
            await self.agree(action.path, None)
        else:
            await self._fetch(action)

    async def _fetch(self, action: Action) -> None:
        run, target, version = self._client.runner.run, self._tree.target, action.version
        assert version is not None
        found: Found | None = await run(target.look, action.path)
        if version.name.kind == NodeKind.FOLDER:
            await run(target.folder, action.path)
            await run(target.attributes, action.path, version.name.mode, version.name.mtime_ns)
        elif found is not None and await self._holds(found, version):
            # The content is here already (a copy, or the same edit).
            if found.kind == NodeKind.FILE and found.mode != version.name.mode:
                await run(target.file_attributes, action.path, version.name.mode, version.name.mtime_ns)
        else:
            if found is not None and action.found is None:
                raise StorageError("something else is there by now; it is looked at again.")
            await self._writer.write(action.path, version, action.found)
            await run(target.sync, action.path)
        now: Found | None = await run(target.look, action.path)
        if now is not None:
            await self.agree(action.path, agreed_on(version, now, version.name.sha256))

    async def _step_aside(self, action: Action) -> None:
        assert action.found is not None and action.version is not None
        if await self._holds(action.found, action.version):
            return
        await self._client.runner.run(self._tree.step_aside, action.path, action.other, action.found)
        self._log.info("two edits met: the local one is kept under another name beside the other")

    async def _holds(self, found: Found, version: PathVersion) -> bool:
        if found.kind != version.name.kind or found.size != version.name.size:
            return False
        digest: bytes = await self._client.runner.run(self._tree.digest, found)
        return digest == version.name.sha256

    # -- towards the ring ---------------------------------------------------------------

    async def _upload(self, action: Action) -> Pending | None:
        assert action.found is not None
        uploaded: Uploaded = await self._client.upload(self._tree.root, action.found, lambda _: None)
        last = action.agreed
        manifest = uploaded.manifest
        standing = self._client.view.current(self._folder, action.path)
        if standing is not None and (standing.name.kind, standing.name.mode, standing.name.sha256) == (
            int(manifest.kind),
            manifest.mode,
            manifest.sha256,
        ):
            await self.agree(action.path, agreed_on(standing, uploaded.found, manifest.sha256))
            return None
        based_on = [last.vector] if last is not None else []
        change = await self._client.change(self._folder, action.path, uploaded, based_on)
        return change, agreed_on(change.version, uploaded.found, manifest.sha256)

    async def _merge(self, action: Action) -> Pending | None:
        """Say that the winner was chosen by somebody who saw all that stand,
        so that the path has one version again."""
        versions = self._client.view.versions(self._folder, action.path)
        found: Found | None = await self._client.runner.run(self._tree.target.look, action.path)
        if found is None or len(versions) < 2:
            return None
        uploaded: Uploaded = await self._client.upload(self._tree.root, found, lambda _: None)
        if uploaded.manifest.sha256 != versions[0].name.sha256:
            return None
        change = await self._client.change(self._folder, action.path, uploaded, [v.vector for v in versions])
        return change, agreed_on(change.version, uploaded.found, uploaded.manifest.sha256)


def agreed_on(version: PathVersion, found: Found, sha256: bytes) -> Agreed:
    """What is agreed once *found* holds *version*."""
    return Agreed(
        version.version,
        version.vector,
        int(found.kind),
        found.size,
        found.mtime_ns,
        found.ctime_ns,
        found.inode,
        found.mode,
        sha256,
    )
