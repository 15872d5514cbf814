"""The services that ``twistd`` offers; nothing else may live here."""

from twisted.application.service import ServiceMaker

peerstore_node = ServiceMaker(
    "PeerStore storage node",
    "peerstore.node.tap",
    "Keep a share of a ring's files.",
    "peerstore-node",
)
peerstore_sync = ServiceMaker(
    "PeerStore folder sync",
    "peerstore.sync.tap",
    "Keep a folder equal on all of a user's computers.",
    "peerstore-sync",
)
